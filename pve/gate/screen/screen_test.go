package screen_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bgbot/pve/gate/screen"
)

// picture reads a file of PNG.
func picture(tb testing.TB, path string) image.Image {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	return img
}

// recorded is a screen of a real guest, decoded from the PPM that QEMU wrote of it. It is kept as PNG, which is small and
// can be looked at, and lost nothing. The race detector makes that slow, so each is read once; nobody draws on them.
func recorded(tb testing.TB, name string) image.Image {
	tb.Helper()
	cache.Lock()
	defer cache.Unlock()
	if cache.screens[name] == nil {
		cache.screens[name] = decode(tb, dump(picture(tb, filepath.Join("testdata", name+".png"))))
	}
	return cache.screens[name]
}

var cache = struct {
	sync.Mutex
	screens map[string]image.Image
}{screens: map[string]image.Image{}}

// dump writes a picture as QEMU's screendump does.
func dump(img image.Image) []byte {
	size := img.Bounds().Size()
	out := fmt.Appendf(make([]byte, 0, 3*size.X*size.Y+20), "P6\n%d %d\n255\n", size.X, size.Y)
	if p, ok := img.(*image.Paletted); ok && p.Stride == size.X {
		var colours [256][3]byte
		for i, c := range p.Palette {
			r, g, b, _ := c.RGBA()
			colours[i] = [3]byte{byte(r >> 8), byte(g >> 8), byte(b >> 8)}
		}
		for _, n := range p.Pix {
			out = append(out, colours[n][:]...)
		}
		return out
	}
	rgba := image.NewRGBA(image.Rectangle{Max: size})
	draw.Draw(rgba, rgba.Rect, img, img.Bounds().Min, draw.Src)
	for i := 0; i < len(rgba.Pix); i += 4 {
		out = append(out, rgba.Pix[i:i+3]...)
	}
	return out
}

func decode(tb testing.TB, ppm []byte) image.Image {
	tb.Helper()
	img, err := screen.Decode(ppm)
	if err != nil {
		tb.Fatal(err)
	}
	return img
}

func encode(tb testing.TB, img image.Image) []byte {
	tb.Helper()
	data, err := screen.PNG(img)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// same compares pixel by pixel.
func same(tb testing.TB, got, want image.Image) {
	tb.Helper()
	if g, w := dump(got), dump(want); !bytes.Equal(g, w) {
		tb.Errorf("the pictures differ: %v and %v", got.Bounds(), want.Bounds())
	}
}

// painted is a picture made of a function.
func painted(w, h int, at func(x, y int) color.RGBA) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := at(x, y)
			copy(img.Pix[4*(y*w+x):], []byte{c.R, c.G, c.B, c.A})
		}
	}
	return img
}

// desktop stands for what is no console: a gradient of more than 256 colours with a window on it.
func desktop(w, h int) image.Image {
	return painted(w, h, func(x, y int) color.RGBA {
		if x > w/4 && x < w/2 && y > h/4 && y < h/2 {
			return color.RGBA{240, 240, 240, 255}
		}
		return color.RGBA{uint8(x / 5), uint8(y / 4), uint8((x + y) / 9), 255}
	})
}

// noise does not compress.
func noise(w, h, colours int) image.Image {
	rnd := rand.New(rand.NewPCG(1, 2))
	return painted(w, h, func(int, int) color.RGBA {
		c := rnd.IntN(colours)
		return color.RGBA{uint8(c), uint8(c >> 8), uint8(c >> 16), 255}
	})
}

func plain(c color.RGBA) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, 720, 400))
	draw.Draw(img, img.Rect, image.NewUniform(c), image.Point{}, draw.Src)
	return img
}

func TestDecodeRefusesWhatQEMUDoesNotWrite(t *testing.T) {
	t.Parallel()
	const foreign = "screen: not a PPM picture as QEMU writes it: it begins with "
	for ppm, want := range map[string]string{
		"":                                foreign + `""`,
		"P6":                              foreign + `"P6"`,
		"P6\n2 2\n":                       foreign + `"P6\n2 2\n"`,
		"P6 2 2 255\n............":        foreign + `"P6 2 2 255\n."`,
		"P6\n# by hand\n2 2\n255\n......": foreign + `"P6\n# by hand"`,
		"P6\n999999999 2\n255\n":          foreign + `"P6\n999999999"`,
		"\x89PNG\r\n\x1a\n\x00 \n\n\n":    foreign + `"\x89PNG\r\n\x1a\n\x00 \n\n"`,
		"P5\n2 2\n255\n............":      foreign + `"P5\n2 2\n255\n."`,
		"P6\n2 2\n65535\n":                foreign + `"P6\n2 2\n65535"`,
		"P6\n2 x\n255\n":                  foreign + `"P6\n2 x\n255\n"`,
		"P6\n0 2\n255\n":                  "screen: a picture of 0x2; want 1 to 4096 pixels a side",
		"P6\n2 -2\n255\n":                 "screen: a picture of 2x-2; want 1 to 4096 pixels a side",
		"P6\n4097 2\n255\n":               "screen: a picture of 4097x2; want 1 to 4096 pixels a side",
		"P6\n2 2\n255\n...........":       "screen: the picture of 2x2 is cut off: 11 bytes of 12",
	} {
		img, err := screen.Decode([]byte(ppm))
		if err == nil || err.Error() != want || img != nil {
			t.Errorf("%q: got %v, %v, want %q", ppm, img, err, want)
		}
	}
}

func TestDecodeKeepsEveryPixel(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]image.Image{
		"256 colours":         noise(64, 64, 256),
		"thousands":           noise(64, 64, 1<<24),
		"one pixel":           painted(1, 1, func(int, int) color.RGBA { return color.RGBA{1, 2, 3, 255} }),
		"black":               plain(color.RGBA{0, 0, 0, 255}),
		"the largest allowed": painted(4096, 1, func(x, _ int) color.RGBA { return color.RGBA{uint8(x), 0, 0, 255} }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, decode(t, dump(want)), want)
		})
	}
}

func TestPNGKeepsEveryPixelOfATextScreenAndIsSmall(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"panic", "colours", "framebuffer"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := recorded(t, name)
			data := encode(t, want)
			got, err := png.Decode(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, want)
			if len(data) > 10<<10 {
				t.Errorf("it takes %d bytes", len(data))
			}
		})
	}
}

func TestPNGAlwaysFitsInALine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		img  image.Image
		want image.Point
	}{
		"a desktop":         {desktop(640, 480), image.Pt(640, 480)},
		"all colours":       {noise(441, 401, 1<<24), image.Pt(220, 200)},
		"256 random ones":   {noise(900, 600, 256), image.Pt(450, 300)},
		"a narrow long one": {noise(1, 4096, 1<<24), image.Pt(1, 4096)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := encode(t, c.img)
			got, err := png.Decode(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if len(data) > 512<<10 || got.Bounds().Size() != c.want {
				t.Errorf("got %d bytes of %v, want at most 512 KiB of %v", len(data), got.Bounds().Size(), c.want)
			}
		})
	}
}

// Four pixels become their mean, so that a halved picture is darker nowhere.
func TestPNGHalvesByTheMean(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	const side = 432 // three bytes of each pixel are more than 512 KiB
	var sum [3]int
	img := image.NewRGBA(image.Rect(0, 0, side, side))
	for i := range img.Pix {
		img.Pix[i] = 0xff
		if c := i % 4; c < 3 {
			img.Pix[i] = byte(rnd.IntN(256))
			sum[c] += int(img.Pix[i])
		}
	}
	got, err := png.Decode(bytes.NewReader(encode(t, img)))
	if err != nil {
		t.Fatal(err)
	}
	n := got.Bounds().Dx()
	raw := dump(got)
	raw = raw[len(raw)-3*n*n:]
	for c := range sum {
		mean := 0
		for i := c; i < len(raw); i += 3 {
			mean += int(raw[i])
		}
		if was, is := sum[c]/side/side, mean/n/n; is < was-3 || is > was+3 {
			t.Errorf("colour %d has a mean of %d, was %d", c, is, was)
		}
	}
}

func TestBlank(t *testing.T) {
	t.Parallel()
	dot := image.NewRGBA(image.Rect(0, 0, 720, 400))
	draw.Draw(dot, dot.Rect, image.Black, image.Point{}, draw.Src)
	dot.Set(719, 399, color.White)
	for name, c := range map[string]struct {
		img  image.Image
		want bool
	}{
		"off":       {plain(color.RGBA{0, 0, 0, 255}), true},
		"blue":      {plain(color.RGBA{0, 0, 170, 255}), true},
		"one dot":   {dot, false},
		"a desktop": {desktop(640, 480), false},
		"a console": {recorded(t, "boot"), false},
	} {
		if got := screen.Blank(c.img); got != c.want {
			t.Errorf("%s: Blank is %v", name, got)
		}
		if got := screen.Blank(decode(t, dump(c.img))); got != c.want {
			t.Errorf("%s, decoded: Blank is %v", name, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("P6\n2 2\n255\n............"))
	f.Add([]byte("P6\n4096 4096\n255\n"))
	f.Add(dump(noise(17, 16, 300)))
	f.Add(dump(noise(9, 16, 2)))
	f.Fuzz(func(t *testing.T, ppm []byte) {
		img, err := screen.Decode(ppm)
		if err != nil {
			if img != nil || !strings.HasPrefix(err.Error(), "screen: ") {
				t.Fatalf("got %v with the error %v", img, err)
			}
			return
		}
		newline := []byte("\n")
		if !bytes.HasPrefix(bytes.SplitN(ppm, newline, 4)[3], bytes.SplitN(dump(img), newline, 4)[3]) {
			t.Error("the picture is not that of the bytes")
		}
		_, _ = screen.Text(img), screen.Blank(img)
	})
}
