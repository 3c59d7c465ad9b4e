package screen

import (
	"bytes"
	"image"
	"image/draw"
	"image/png"
)

// maxPNG keeps a picture, with base64 on top, within one line to the client, and leaves room for the other evidence.
const maxPNG = 512 << 10

// PNG encodes a picture in at most 512 KiB: a text screen takes up to 10 kB, pixel for pixel. Only a picture with too many
// colours, such as a desktop with a photo on it, does not fit; it is halved until it does.
func PNG(img image.Image) ([]byte, error) {
	if p := reduced(img); p != nil {
		img = p
	}
	for {
		var out bytes.Buffer
		if err := png.Encode(&out, img); err != nil || out.Len() <= maxPNG {
			return out.Bytes(), err
		}
		img = halved(img)
	}
}

// halved makes one pixel of four, by their mean.
func halved(img image.Image) *image.RGBA {
	b := img.Bounds()
	from := image.NewRGBA(image.Rect(0, 0, b.Dx()&^1, b.Dy()&^1)) // an odd last row or column is dropped
	draw.Draw(from, from.Rect, img, b.Min, draw.Src)
	to := image.NewRGBA(image.Rect(0, 0, from.Rect.Dx()/2, from.Rect.Dy()/2))
	for i := range to.Pix {
		y, x := i/to.Stride, i%to.Stride
		at := 2*y*from.Stride + x/4*8 + x%4
		sum := int(from.Pix[at]) + int(from.Pix[at+4]) + int(from.Pix[at+from.Stride]) + int(from.Pix[at+from.Stride+4])
		to.Pix[i] = uint8(sum / 4) //nolint:gosec // the mean of four bytes is a byte
	}
	return to
}
