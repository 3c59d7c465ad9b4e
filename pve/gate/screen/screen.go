// Package screen turns QEMU's picture of a guest's screen into what helps on a phone at night: a small PNG, and the words
// of a text console, which alone show a kernel panic. It owns the PPM format, the size of pictures and the table of
// glyphs. Taking the picture is for pve/qmp; what the words mean is for the verdict.
//
// All functions are pure and may be called at the same time.
package screen

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"strconv"
)

const (
	maxSide    = 4096 // pixels
	maxColours = 256  // of a picture with a palette
)

// Decode reads a PPM picture as QEMU's screendump writes it ("P6", 8 bits a colour). A picture of up to 256 colours, as
// all text screens are, comes as an *image.Paletted of a third of the size, any other one as an *image.RGBA.
func Decode(ppm []byte) (image.Image, error) {
	w, h, rgb, err := header(ppm)
	if err != nil {
		return nil, err
	}
	if want := 3 * w * h; len(rgb) < want {
		return nil, fmt.Errorf("screen: the picture of %dx%d is cut off: %d bytes of %d", w, h, len(rgb), want)
	}
	if img := paletted(w, h, func(i int) [3]byte { return [3]byte(rgb[3*i:]) }); img != nil {
		return img, nil
	}
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		copy(img.Pix[4*i:], rgb[3*i:3*i+3])
		img.Pix[4*i+3] = 0xff
	}
	return img, nil
}

// header reads what stands before the pixels. The format allows comments and any white space; QEMU writes
// "P6\n720 400\n255\n", and nothing else is taken.
func header(ppm []byte) (w, h int, rgb []byte, err error) {
	foreign := fmt.Errorf("screen: not a PPM picture as QEMU writes it: it begins with %q", ppm[:min(len(ppm), 12)])
	var word [4]string
	rgb = ppm
	for i, end := range []byte("\n \n\n") {
		n := bytes.IndexByte(rgb[:min(len(rgb), 8)], end)
		if n < 0 {
			return 0, 0, nil, foreign
		}
		word[i], rgb = string(rgb[:n]), rgb[n+1:]
	}
	w, errW := strconv.Atoi(word[1])
	h, errH := strconv.Atoi(word[2])
	if word[0] != "P6" || word[3] != "255" || errW != nil || errH != nil {
		return 0, 0, nil, foreign
	}
	if w < 1 || h < 1 || w > maxSide || h > maxSide {
		return 0, 0, nil, fmt.Errorf("screen: a picture of %dx%d; want 1 to %d pixels a side", w, h, maxSide)
	}
	return w, h, rgb, nil
}

// paletted makes a picture with a palette, or nil when there are too many colours, which it mostly learns early. at
// gives the colour of a pixel, counted from the top left one to the right.
func paletted(w, h int, at func(int) [3]byte) *image.Paletted {
	img := image.NewPaletted(image.Rect(0, 0, w, h), nil)
	index := map[[3]byte]uint8{}
	var last [3]byte
	var n uint8
	for i := range img.Pix {
		if c := at(i); c != last || i == 0 { // most pixels are as the one before
			known := false
			if n, known = index[c]; !known {
				if len(index) == maxColours {
					return nil
				}
				n = uint8(len(index)) //nolint:gosec // below 256
				index[c] = n
				img.Palette = append(img.Palette, color.RGBA{c[0], c[1], c[2], 0xff})
			}
			last = c
		}
		img.Pix[i] = n
	}
	return img
}

// reduced gives any picture a palette, or nil when it has too many colours.
func reduced(img image.Image) *image.Paletted {
	b := img.Bounds()
	switch img := img.(type) {
	case *image.Paletted:
		return img
	case *image.RGBA:
		return paletted(b.Dx(), b.Dy(), func(i int) [3]byte {
			return [3]byte(img.Pix[img.PixOffset(b.Min.X+i%b.Dx(), b.Min.Y+i/b.Dx()):])
		})
	}
	copied := image.NewRGBA(b)
	draw.Draw(copied, b, img, b.Min, draw.Src)
	return reduced(copied)
}

// Blank tells whether the whole picture is one colour: the screen is off, or nothing was drawn yet.
func Blank(img image.Image) bool {
	p := reduced(img)
	if p == nil {
		return false
	}
	b := p.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for _, c := range p.Pix[p.PixOffset(b.Min.X, y):][:b.Dx()] {
			if c != p.ColorIndexAt(b.Min.X, b.Min.Y) {
				return false
			}
		}
	}
	return true
}
