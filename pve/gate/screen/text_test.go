package screen_test

import (
	"image"
	"image/color"
	"image/draw"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"bgbot/pve/gate/screen"
)

// screens were recorded from real guests, see specimens. The text that is on each is beside it.
var screens = []string{
	"boot",              // text mode: BIOS, kernel, the lab's guest is up; the cursor below
	"colours",           // text mode, font Fixed: colours, inverse video, a prompt with the cursor
	"framebuffer",       // 1280x800, the kernel's font: the same in colour
	"framebuffer-panic", // 1280x800, font Fixed
	"login",             // text mode: nothing but a login prompt
	"no-disk",           // the BIOS found nothing to boot
	"not-drawn",         // 640x480: QEMU's own words while a VM has not begun, here started with -S
	"oom",               // text mode: the kernel killed a process
	"panic",             // text mode: echo c >/proc/sysrq-trigger
}

func TestTextOfRecordedScreens(t *testing.T) {
	t.Parallel()
	for _, name := range screens {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := strings.Join(screen.Text(recorded(t, name)), "\n") + "\n"
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// The words that a verdict goes by, verbatim.
func TestTheScreenSaysWhyTheGuestIsMute(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"panic":             "---[ end Kernel panic - not syncing: sysrq triggered crash ]---",
		"framebuffer-panic": "Kernel panic - not syncing: sysrq triggered crash",
		"oom":               "Out of memory: Killed process 144 (tail)",
		"no-disk":           "No bootable device.",
		"not-drawn":         "Guest has not initialized the display (yet).",
		"login":             "devvm login:",
	} {
		lines := screen.Text(recorded(t, name))
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("%s: no line has %q:\n%s", name, want, strings.Join(lines, "\n"))
		}
	}
}

func TestWhatIsNoConsoleHasNoText(t *testing.T) {
	t.Parallel()
	black, white := color.RGBA{0, 0, 0, 255}, color.RGBA{255, 255, 255, 255}
	either := func(is bool) color.RGBA {
		if is {
			return white
		}
		return black
	}
	for name, img := range map[string]image.Image{
		"blank":            plain(black),
		"a desktop":        desktop(640, 480),
		"few colours":      painted(1280, 800, func(x, y int) color.RGBA { return color.RGBA{uint8(x / 40), uint8(y / 400), 0, 255} }),
		"noise":            noise(720, 400, 2),
		"lines on a grid":  painted(1280, 800, func(_, y int) color.RGBA { return either(y%16 == 7) }),
		"a fine mesh":      painted(1280, 800, func(x, y int) color.RGBA { return either(x%2 == y%2) }),
		"a window's frame": painted(1024, 768, func(x, y int) color.RGBA { return either(x == 100 || y == 103) }),
		"smaller than one": plain(black).(*image.RGBA).SubImage(image.Rect(0, 0, 7, 15)),
		"only a cursor":    painted(720, 400, func(x, y int) color.RGBA { return either(x < 9 && (y == 13 || y == 14)) }),
	} {
		if got := screen.Text(img); got != nil {
			t.Errorf("%s: has the text %q", name, got)
		}
	}
}

// prompt is a login prompt to scribble on.
func prompt(t *testing.T) *image.RGBA {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 720, 400))
	draw.Draw(img, img.Rect, recorded(t, "login"), image.Point{}, draw.Src)
	return img
}

// fill paints a part of a cell.
func fill(img draw.Image, column, line int, part image.Rectangle, c color.Color) {
	draw.Draw(img, part.Add(image.Pt(column*9, line*16)), image.NewUniform(c), image.Point{}, draw.Src)
}

func TestTheCursorHidesNoLetter(t *testing.T) {
	t.Parallel()
	for name, cursor := range map[string]image.Rectangle{
		"of text mode":     image.Rect(0, 13, 9, 15),
		"of a framebuffer": image.Rect(0, 14, 9, 16),
	} {
		img := prompt(t)
		fill(img, 0, 3, cursor, color.White) // under the d of devvm
		fill(img, 13, 3, cursor, color.White)
		if got := screen.Text(img); len(got) != 4 || got[3] != "devvm login:" {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestWhatCannotBeReadIsMarked(t *testing.T) {
	t.Parallel()
	img := prompt(t)
	fill(img, 6, 3, image.Rect(1, 2, 5, 9), color.White)
	if got := screen.Text(img); len(got) != 4 || got[3] != "devvm \uFFFDogin:" {
		t.Errorf("got %q", got)
	}
	for column := range 10 {
		fill(img, column, 1, image.Rect(1, 2, 5, 9), color.White)
	}
	if got := screen.Text(img); got != nil {
		t.Errorf("too much of it is guessed: %q", got)
	}
}

func TestAPixelTooManyIsNoMatter(t *testing.T) {
	t.Parallel()
	img := prompt(t)
	for column := range 5 {
		fill(img, column, 3, image.Rect(0, 0, 1, 1), color.White)
	}
	if got := screen.Text(img); len(got) != 4 || got[3] != "devvm login:" {
		t.Errorf("got %q", got)
	}
}

// A caller may hold a picture in another form, or a part of one.
func TestTextOfAnyPicture(t *testing.T) {
	t.Parallel()
	if got := screen.Text(prompt(t)); len(got) != 4 || got[3] != "devvm login:" {
		t.Errorf("without a palette: got %q", got)
	}
	part := recorded(t, "login").(*image.Paletted).SubImage(image.Rect(6*9, 3*16, 720, 400))
	if got := screen.Text(part); len(got) != 1 || got[0] != "login:" {
		t.Errorf("a part: got %q", got)
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("some ink"), uint8(90), uint8(2))
	f.Add([]byte{0x18, 0x3c, 0x66, 0x66}, uint8(8), uint8(200))
	f.Fuzz(func(t *testing.T, ink []byte, width, colours uint8) {
		if len(ink) == 0 || width == 0 || colours == 0 {
			return
		}
		img := image.NewPaletted(image.Rect(0, 0, int(width), min(8*len(ink)/int(width), 400)), nil)
		for i := range colours {
			img.Palette = append(img.Palette, color.RGBA{i, i, i, 255})
		}
		for i := range img.Pix {
			if ink[i/8%len(ink)]>>(i%8)&1 == 1 {
				img.Pix[i] = ink[i/8] % colours
			}
		}
		for _, line := range screen.Text(img) {
			for _, char := range line {
				if !unicode.IsPrint(char) && char != unicode.ReplacementChar {
					t.Errorf("the text holds %q", char)
				}
			}
			if line != strings.TrimRight(line, " ") {
				t.Errorf("a blank ends %q", line)
			}
		}
	})
}
