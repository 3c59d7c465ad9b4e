package console

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"

	"bgbot/bot"
)

// A picture comes from a machine that may be anybody's by now, so what it would take to decode it is looked at first. A
// VGA screen has at most 2560 x 1600 pixels.
const (
	pictureType = "image/png"

	mostPixels = 2560 * 1600
	mostPNG    = 4 << 20
)

// picture is a screen as small as a terminal can show it: at most thumbWidth x thumbHeight pixels, row by row.
type picture struct {
	width, height int
	pixels        []color.RGBA
}

const (
	thumbWidth  = 200
	thumbHeight = 2 * pictureRows
	pictureRows = 24 // of a terminal, at most; each shows two rows of pixels
)

// decode reads a PNG that is small enough to be read.
func decode(data []byte) (image.Image, error) {
	if len(data) > mostPNG {
		return nil, fmt.Errorf("a picture of %d bytes", len(data))
	}
	size, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if size.Width < 1 || size.Height < 1 || size.Width > mostPixels/size.Height {
		return nil, fmt.Errorf("a picture of %d x %d pixels", size.Width, size.Height)
	}
	return png.Decode(bytes.NewReader(data))
}

// shrunk makes the small picture that is kept.
func shrunk(img image.Image) *picture {
	at := img.Bounds()
	return scaled(at.Dx(), at.Dy(), thumbWidth, thumbHeight, func(x, y int) color.RGBA {
		return color.RGBAModel.Convert(img.At(at.Min.X+x, at.Min.Y+y)).(color.RGBA)
	})
}

// pictures are those among the files that can be drawn.
func pictures(files []bot.File) []*picture {
	var all []*picture
	for _, f := range files {
		if f.Type != pictureType {
			continue
		}
		if img, err := decode(f.Data); err == nil { // else the file is there
			all = append(all, shrunk(img))
		}
	}
	return all
}

// scaled makes a picture of width x height pixels fit, never larger than it was. A pixel is the mean of those that it
// stands for, of which 16 are enough.
func scaled(width, height, maxWidth, maxHeight int, at func(x, y int) color.RGBA) *picture {
	w := min(width, maxWidth, max(1, maxHeight*width/height))
	h := max(1, min(height, maxHeight, height*w/width))
	small := &picture{width: w, height: h, pixels: make([]color.RGBA, 0, w*h)}
	for y := range h {
		top, bottom := y*height/h, max(y*height/h+1, (y+1)*height/h)
		for x := range w {
			left, right := x*width/w, max(x*width/w+1, (x+1)*width/w)
			var sum [3]int
			n := 0
			for i := top; i < bottom; i += max(1, (bottom-top)/4) {
				for j := left; j < right; j += max(1, (right-left)/4) {
					c := at(j, i)
					sum[0], sum[1], sum[2] = sum[0]+int(c.R), sum[1]+int(c.G), sum[2]+int(c.B)
					n++
				}
			}
			small.pixels = append(small.pixels, color.RGBA{R: uint8(sum[0] / n), G: uint8(sum[1] / n), B: uint8(sum[2] / n), A: 255}) //nolint:gosec // the mean of bytes is a byte
		}
	}
	return small
}

func (p *picture) at(x, y int) color.RGBA { return p.pixels[y*p.width+x] }

// lines draws the picture in half blocks: ordinary cells, the upper pixel in the colour of the letter, the lower one in
// that of the background. A colour is set only where it changes, for most of a text screen is black.
func (p *picture) lines(width, rows int) []string {
	small := scaled(p.width, p.height, width, 2*rows, p.at)
	lines := make([]string, 0, (small.height+1)/2)
	for y := 0; y < small.height; y += 2 {
		var b strings.Builder
		last := ""
		for x := range small.width {
			up, low := small.at(x, y), small.at(x, min(y+1, small.height-1))
			if look := fmt.Sprintf("\x1b[38;2;%d;%d;%d;48;2;%d;%d;%dm", up.R, up.G, up.B, low.R, low.G, low.B); look != last {
				b.WriteString(look)
				last = look
			}
			b.WriteString("▀")
		}
		lines = append(lines, b.String()+"\x1b[0m")
	}
	return lines
}
