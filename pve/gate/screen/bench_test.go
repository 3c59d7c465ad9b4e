package screen_test

import (
	"testing"

	"bgbot/pve/gate/screen"
)

// The two kinds of screens, and what costs most: a picture in which nothing is a letter.
func BenchmarkPicture(b *testing.B) {
	for _, name := range []string{"panic", "framebuffer-panic"} {
		ppm := dump(recorded(b, name))
		b.Run(name, func(b *testing.B) {
			size := 0
			for b.Loop() {
				size = len(encode(b, decode(b, ppm)))
			}
			b.ReportMetric(float64(size), "png-bytes")
		})
	}
	ppm := dump(desktop(1280, 800))
	b.Run("desktop", func(b *testing.B) {
		size := 0
		for b.Loop() {
			size = len(encode(b, decode(b, ppm)))
		}
		b.ReportMetric(float64(size), "png-bytes")
	})
}

func BenchmarkText(b *testing.B) {
	for _, name := range []string{"panic", "framebuffer-panic"} {
		img := recorded(b, name)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				screen.Text(img)
			}
		})
	}
	img := decode(b, dump(noise(1280, 800, 2)))
	b.Run("noise", func(b *testing.B) {
		for b.Loop() {
			screen.Text(img)
		}
	})
}
