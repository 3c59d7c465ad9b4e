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

// screen waits for the picture that the conversation with QEMU takes, and reads it. It is a probe of its own so that a
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

// shoot takes it, for the probe that reads it. A silence is not passed on: the conversation may be tried again.
func (l *look) shoot(ctx context.Context, mon *qmp.Monitor) error {
	ppm, err := mon.Screen(ctx)
	if !errors.Is(err, qmp.ErrSilent) {
		l.pass(shot{ppm, err})
	}
	return err
}

// pass hands a picture, or its lack, to the probe that waits; all but the first are in vain.
func (l *look) pass(s shot) {
	select {
	case l.shot <- s:
	default:
	}
}
