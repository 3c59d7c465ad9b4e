package screen

import (
	"image"
	"strings"
	"unicode"
)

const (
	minLetters = 4  // on the whole screen; "grub>" has that many
	minKnown   = 90 // percent of the cells that are not blank
)

// Text reads a text console: its lines from the top, without the blanks at the end of each and without the blank lines at
// the end. They hold printable ASCII and box drawing characters only, and U+FFFD for what is neither. It is nil when the
// picture is no text console in one of the fonts of the table: a desktop, a boot splash, letters of another size.
//
// A line that is too long for the screen goes on in the next one, so a phrase may be in two.
func Text(img image.Image) []string {
	p := reduced(img)
	if p == nil {
		return nil // consoles have 16 colours
	}
	f := loadFont()
	var best page
	for _, width := range []int{glyphWidth + 1, glyphWidth} { // VGA text mode, framebuffer console
		if pg := f.page(p, width); pg.letters > best.letters {
			best = pg
		}
	}
	if best.letters < minLetters || best.known*100 < best.inked*minKnown {
		return nil
	}
	return best.lines
}

// page is a picture read as a grid of cells.
type page struct {
	lines   []string
	inked   int // cells that are not blank
	known   int // of these, with a character
	letters int // of these, letters and digits; lines and dots are found in any drawing
}

// page reads cells of a width. The ninth column of the wide ones holds no ink of its own.
func (f *font) page(img *image.Paletted, width int) page {
	var pg page
	full := 0 // lines up to the last one that is not blank
	b := img.Bounds()
	for y := b.Min.Y; y+glyphHeight <= b.Max.Y; y += glyphHeight {
		var line strings.Builder
		for x := b.Min.X; x+width <= b.Max.X; x += width {
			char := f.read(cut(img, x, y))
			line.WriteRune(char)
			pg.count(char)
		}
		pg.lines = append(pg.lines, strings.TrimRight(line.String(), " "))
		if pg.lines[len(pg.lines)-1] != "" {
			full = len(pg.lines)
		}
	}
	pg.lines = pg.lines[:full]
	return pg
}

func (pg *page) count(char rune) {
	if char == ' ' {
		return
	}
	pg.inked++
	if char != unknown {
		pg.known++
	}
	if unicode.IsLetter(char) || unicode.IsDigit(char) {
		pg.letters++
	}
}
