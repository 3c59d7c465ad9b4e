package console

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image/png"
	"io"
	"slices"
	"strings"

	"golang.org/x/term"
)

// graphics is how a terminal shows pictures.
type graphics int

const (
	noGraphics graphics = iota
	halfBlocks          // in cells with 24-bit colours
	iterm               // https://iterm2.com/documentation-images.html
	kitty               // https://sw.kovidgoyal.net/kitty/graphics-protocol/
)

// graphicsOf reads it from the environment (KEY=value); asking the terminal would put its answer among the keys. Inside
// tmux and screen the protocols do not pass.
func graphicsOf(environ []string) graphics {
	name, program := lookup(environ, "TERM"), lookup(environ, "TERM_PROGRAM")
	boxed := lookup(environ, "TMUX") != "" || lookup(environ, "STY") != "" || strings.HasPrefix(name, "tmux") || strings.HasPrefix(name, "screen")
	switch {
	case lookup(environ, "NO_COLOR") != "" || name == "dumb" || name == "":
		return noGraphics
	case boxed:
	case name == "xterm-kitty" || name == "xterm-ghostty" || program == "ghostty":
		return kitty
	case program == "iTerm.app" || program == "WezTerm":
		return iterm
	}
	if colourful(environ) {
		return halfBlocks
	}
	return noGraphics
}

// colourful says that cells may have any colour.
func colourful(environ []string) bool {
	return lookup(environ, "NO_COLOR") == "" && slices.Contains([]string{"truecolor", "24bit"}, lookup(environ, "COLORTERM"))
}

// lookup is the value of a key; the last one counts.
func lookup(environ []string, key string) (value string) {
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			value = v
		}
	}
	return value
}

// Draw shows a PNG on the terminal out, whose cursor is at the start of a line, as well as environ (KEY=value) says that
// it can. It returns false, having written nothing, when that terminal shows no pictures or data is none that may be
// drawn. Nothing else may write to out meanwhile.
func Draw(out device, environ []string, data []byte) bool {
	how := graphicsOf(environ)
	if how == noGraphics || !terminal(out) {
		return false
	}
	width, height, err := term.GetSize(int(out.Fd()))
	if err != nil {
		return false
	}
	text := how.show(data, width, height)
	if text == "" {
		return false
	}
	_, err = io.WriteString(out, text)
	return err == nil
}

// show is what a terminal of that size is sent, ending with a newline; "" if nothing.
func (g graphics) show(data []byte, width, height int) string {
	width, rows := width-1, min(pictureRows, height-4)
	if width < 8 || rows < 4 {
		return ""
	}
	img, err := decode(data)
	if err != nil {
		return ""
	}
	small := shrunk(img)
	if g == halfBlocks {
		return strings.Join(small.lines(width, rows), "\n") + "\n"
	}
	var clean bytes.Buffer // the terminal gets what we have decoded, not what somebody sent
	if err := png.Encode(&clean, img); err != nil {
		return ""
	}
	columns := min(width, max(1, 2*rows*small.width/small.height))
	text := base64.StdEncoding.EncodeToString(clean.Bytes())
	if g == iterm {
		return fmt.Sprintf("\x1b]1337;File=inline=1;size=%d;width=%d;preserveAspectRatio=1:%s\a\n", clean.Len(), columns, text)
	}
	return kittyShow(text, columns)
}

// kittyShow sends a PNG (f=100) in base64, in chunks of at most 4,096 bytes, and shows it (a=T); q=2 asks for no answer,
// which would arrive as keys.
func kittyShow(text string, columns int) string {
	var b strings.Builder
	head := fmt.Sprintf("a=T,f=100,q=2,c=%d,", columns)
	for text != "" {
		chunk, more := text[:min(len(text), 4096)], 0
		if text = text[len(chunk):]; text != "" {
			more = 1
		}
		fmt.Fprintf(&b, "\x1b_G%sm=%d;%s\x1b\\", head, more, chunk)
		head = ""
	}
	return b.String() + "\n"
}
