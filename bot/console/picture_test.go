package console

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"bgbot/bot"
)

// screenshot is a text screen of a VM: black, with grey lines of text.
func screenshot(width, height int) []byte {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := color.RGBA{A: 255}
			if y%16 < 10 && x < width/2 && x%9 < 6 && y < height/2 {
				c = color.RGBA{R: 170, G: 170, B: 170, A: 255}
			}
			img.Set(x, y, c)
		}
	}
	var b bytes.Buffer
	_ = png.Encode(&b, img) // to memory, of an image that is fine
	return b.Bytes()
}

// claims is a PNG that says of itself that it has so many pixels.
func claims(width, height uint32) []byte {
	b := screenshot(8, 8)
	binary.BigEndian.PutUint32(b[16:], width)
	binary.BigEndian.PutUint32(b[20:], height)
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
	return b
}

func pictured(data []byte) bot.Text {
	return bot.Text{Body: "✅ devvm is back", Files: []bot.File{{Name: "screen-c81f.png", Type: "image/png", Data: data}}}
}

func paints(o *Options) { o.Environ = []string{"COLORTERM=truecolor", "TERM=xterm-256color"} }

func TestAScreenIsDrawnBelowItsPath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ width, height, cells, rows int }{
		{90, 44, 83, 23},  // as wide as there is room for beside the names
		{60, 30, 58, 16},  // a phone in its width
		{40, 20, 32, 9},   // a phone: no more rows than leave the text in sight
		{200, 60, 86, 24}, // never more than 24 rows
		{40, 12, 0, 0},    // too small for any
	} {
		d := newDesk(t, c.width, c.height)
		d.paints = true
		d.says(d.begin(), pictured(screenshot(720, 400)))
		d.has("file:")
		cells, rows := 0, 0
		for line := range strings.Lines(d.s.View().Content) {
			if n := strings.Count(line, "▀"); n > 0 {
				cells = n
				rows++
			}
			if w := lipgloss.Width(line); w > c.width {
				t.Errorf("%dx%d: a line takes %d columns", c.width, c.height, w)
			}
		}
		if cells != c.cells || rows != c.rows {
			t.Errorf("%dx%d: the picture has %d cells in %d rows, want %d in %d", c.width, c.height, cells, rows, c.cells, c.rows)
		}
	}
}

func TestColoursAreThoseOfTheScreen(t *testing.T) {
	t.Parallel()
	img := image.NewNRGBA(image.Rect(0, 0, 2, 3))
	for i, c := range []color.NRGBA{{255, 0, 0, 255}, {0, 255, 0, 255}, {0, 0, 255, 255}, {0, 0, 255, 255}, {9, 9, 9, 255}, {9, 9, 9, 255}} {
		img.Set(i%2, i/2, c)
	}
	got := strings.Join(shrunk(img).lines(80, 24), "\n")
	want := "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[38;2;0;255;0;48;2;0;0;255m▀\x1b[0m\n\x1b[38;2;9;9;9;48;2;9;9;9m▀▀\x1b[0m"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	wide := shrunk(image.NewGray(image.Rect(0, 0, 4000, 1)))
	if wide.width != thumbWidth || wide.height != 1 {
		t.Errorf("a line of pixels becomes %dx%d", wide.width, wide.height)
	}
}

func TestOnlyATerminalWithColoursGetsPictures(t *testing.T) {
	t.Parallel()
	for want, environs := range map[graphics][][]string{
		kitty:      {{"TERM=xterm-kitty"}, {"TERM=xterm-256color", "TERM_PROGRAM=ghostty", "COLORTERM=truecolor"}},
		iterm:      {{"TERM=xterm-256color", "TERM_PROGRAM=iTerm.app"}, {"TERM=xterm-256color", "TERM_PROGRAM=WezTerm"}},
		halfBlocks: {{"TERM=xterm", "COLORTERM=24bit"}, {"TERM=screen", "COLORTERM=truecolor"}, {"TERM=xterm-kitty", "TMUX=/tmp/x,1,0", "COLORTERM=truecolor"}},
		noGraphics: {{}, {"TERM=xterm-256color"}, {"TERM=dumb", "COLORTERM=truecolor"}, {"TERM=xterm-kitty", "NO_COLOR=1"}, {"TERM=xterm", "COLORTERM=truecolor", "NO_COLOR=1"}},
	} {
		for _, environ := range environs {
			if got := graphicsOf(environ); got != want {
				t.Errorf("%q: %d, want %d", environ, got, want)
			}
		}
	}
	g := newRig(t, paints) // plain lines
	g.says(bot.Place{}, pictured(screenshot(72, 40)))
	if out := g.out.String(); strings.Contains(out, "\x1b") || strings.Contains(out, "▀") {
		t.Errorf("plain lines got %q", out)
	}
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = pipe.Close(), w.Close() }()
	if Draw(w, []string{"TERM=xterm-kitty"}, screenshot(72, 40)) {
		t.Error("a pipe got a picture")
	}
}

func TestTheProtocolsCarryTheWholePicture(t *testing.T) {
	t.Parallel()
	data := screenshot(720, 400)
	same := func(what, text string) {
		t.Helper()
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if img, err := png.Decode(bytes.NewReader(raw)); err != nil || img.Bounds().Dx() != 720 {
			t.Errorf("%s: not the picture: %v", what, err)
		}
	}
	out := iterm.show(data, 100, 40)
	m := regexp.MustCompile(`^\x1b\]1337;File=inline=1;size=\d+;width=87;preserveAspectRatio=1:([A-Za-z0-9+/=]+)\a\n$`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("iTerm2 gets %.100q", out)
	}
	same("iTerm2", m[1])
	var all strings.Builder
	out = kitty.show(data, 60, 40)
	for i, m := range regexp.MustCompile(`\x1b_G([^;]*)m=([01]);([^\x1b]*)\x1b\\`).FindAllStringSubmatch(out, -1) {
		if first := m[1] == "a=T,f=100,q=2,c=59,"; first != (i == 0) || len(m[3]) > 4096 {
			t.Errorf("chunk %d is %q with %d bytes", i, m[1], len(m[3]))
		}
		all.WriteString(m[3])
	}
	same("kitty", all.String())
	if !strings.HasSuffix(out, "\x1b\\\n") || strings.Count(out, "m=0;") != 1 {
		t.Errorf("kitty's picture ends with %q", out[len(out)-20:])
	}
}

func TestAHostilePictureIsOnlyAFile(t *testing.T) {
	t.Parallel()
	small := screenshot(72, 40)
	for name, data := range map[string][]byte{
		"huge":       claims(60000, 60000),
		"overflow":   claims(1<<31-1, 1<<31-1),
		"no picture": []byte("\x89PNG"),
		"cut":        small[:len(small)/2],
		"large":      append(bytes.Clone(small), make([]byte, mostPNG)...),
		"empty":      nil,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decode(data)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: it is decoded", name)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 { // other tests run beside it
			t.Errorf("%s: it took %d bytes", name, took)
		}
		d := newDesk(t, 90, 44)
		d.paints = true
		d.says(d.begin(), pictured(data))
		d.has("file:")
		d.lacks("▀")
	}
}

func TestPicturesDoNotPileUp(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 90, 44)
	d.paints = true
	p := d.begin()
	for range mostPainted + 5 {
		d.says(p, pictured(screenshot(72, 40)))
	}
	n := 0
	for _, e := range d.talk.here().entries {
		n += len(e.pictures)
	}
	if n != mostPainted {
		t.Errorf("%d pictures are kept, want %d", n, mostPainted)
	}
	d.has("▀")
}

func FuzzPicture(f *testing.F) {
	f.Add(screenshot(72, 40), 80, 24)
	f.Add(claims(60000, 60000), 1, 1)
	f.Fuzz(func(t *testing.T, data []byte, width, rows int) {
		if width < 1 || rows < 1 || width > 500 || rows > 200 {
			return
		}
		img, err := decode(data)
		if err != nil {
			return
		}
		lines := shrunk(img).lines(width, rows)
		for _, line := range lines {
			if lipgloss.Width(line) > width || strings.Trim(ansi.Strip(line), "▀") != "" {
				t.Errorf("%q is wider than %d", line, width)
			}
		}
		if len(lines) > rows {
			t.Errorf("%d rows, want at most %d", len(lines), rows)
		}
	})
}
