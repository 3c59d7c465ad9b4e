package evidence

import (
	"context"
	"errors"

	"bgbot/pve/gate/screen"
	"bgbot/pve/qmp"
)

// Screen is what the guest shows.
type Screen struct {
	PNG   []byte   `json:"png,omitempty"`
	Text  []string `json:"text,omitempty"` // its lines, as far as they could be read
	Blank bool     `json:"blank,omitempty"`
}

// screen waits for the picture that is taken of QEMU after all else, and reads it. It is a probe of its own so that a
// picture of an odd kind costs nothing else.
func (l *look) screen(ctx context.Context) finding {
	var ppm []byte
	select {
	case shot := <-l.shot:
		if shot.err != nil {
			return finding{err: shot.err}
		}
		ppm = shot.ppm
	case <-ctx.Done():
		return finding{err: errors.New("QEMU gave no picture")}
	}
	picture, err := screen.Decode(ppm)
	if err != nil {
		return finding{err: err}
	}
	s := &Screen{Blank: screen.Blank(picture)}
	if s.PNG, err = screen.PNG(picture); err != nil {
		return finding{err: err}
	}
	put := func(c *Capture) { c.Screen = s }
	for _, row := range screen.Text(picture) {
		s.Text = append(s.Text, clean(row))
	}
	return finding{put: put}
}

// shot is the picture as QEMU gave it.
type shot struct {
	ppm []byte
	err error
}

// shoot takes it, for the probe that reads it, in a conversation that nothing else depends on.
func (l *look) shoot(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, shotLimit)
	defer cancel()
	mon, err := qmp.Dial(ctx, l.socket("qmp"))
	if err != nil {
		l.pass(shot{err: err})
		return
	}
	defer func() { _ = mon.Close() }()
	ppm, err := mon.Screen(ctx)
	l.pass(shot{ppm, err})
}

// pass hands a picture, or its lack, to the probe that waits; all but the first are in vain.
func (l *look) pass(s shot) {
	select {
	case l.shot <- s:
	default:
	}
}
