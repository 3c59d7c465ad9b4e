package screen_test

import (
	"bytes"
	"flag"
	"image"
	"image/color"
	"image/png"
	"os"
	"slices"
	"strings"
	"testing"

	"bgbot/pve/gate/screen"
)

var update = flag.Bool("update", false, "write the golden files and the table of glyphs anew")

// specimens are QEMU's pictures of consoles on which the characters of the table were printed, the cursor switched off:
//
//	awk 'BEGIN { for (i = 32; i < 127; i++) { s = s sprintf("%c", i); if (i % 32 == 31 || i == 126) { print s; s = "" } } }'
//	echo '─│┌┐└┘├┤┬┴┼═║╔╗╚╝╠╣╦╩╬░▒▓█▀▄'
//
// Guest: Linux 6.1 of Debian 12 in QEMU 7.2 with -vga std; with SeaBIOS for text mode, with OVMF for a framebuffer. The
// last two fonts were loaded with loadfont.
var specimens = []struct {
	name  string
	width int // of a cell
}{
	{"specimen-1-vga-text-mode", 9},
	{"specimen-2-kernel", 8},
	{"specimen-3-fixed", 9},
	{"specimen-4-vga", 8},
}

func TestTheTableIsCutOutOfRecordedScreens(t *testing.T) {
	t.Parallel()
	lines := []int{32, 32, 31, 22} // how many characters of each are in the table
	strip := image.NewPaletted(image.Rect(0, 0, 117*8, len(specimens)*16), color.Palette{color.Black, color.White})
	for row, s := range specimens {
		img := recorded(t, s.name).(*image.Paletted)
		at := 0
		for line, n := range lines {
			for cell := range n {
				for i := range 8 * 16 {
					x, y := i%8, i/8
					if img.Palette[img.ColorIndexAt(cell*s.width+x, line*16+y)] != (color.RGBA{0, 0, 0, 0xff}) {
						strip.SetColorIndex(at*8+x, row*16+y, 1)
					}
				}
				at++
			}
		}
	}
	if *update {
		var out bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, strip); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("glyphs.png", out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	same(t, strip, picture(t, "glyphs.png"))
}

func TestEveryCharacterOfEveryFontIsRead(t *testing.T) {
	t.Parallel()
	want := []string{
		" !\"#$%&'()*+,-./0123456789:;<=>?",
		"@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_",
		"`abcdefghijklmnopqrstuvwxyz{|}~",
		"─│┌┐└┘├┤┬┴┼═║╔╗╚╝╠╣╦╩╬",
	}
	for row, s := range specimens {
		boxes := want[3]
		if row >= 2 {
			boxes = "─│┌┐└┘├┤┬┴┼─│┌┐└┘├┤┬┴┼" // Debian's fonts draw double lines as single ones
		}
		got := screen.Text(recorded(t, s.name))
		if len(got) != 4 || !slices.Equal(got[:3], want[:3]) || !strings.HasPrefix(got[3], boxes) {
			t.Errorf("%s: got\n%s", s.name, strings.Join(got, "\n"))
		}
	}
}
