package screen

import (
	"bytes"
	_ "embed"
	"image"
	"image/png"
	"math/bits"
)

const (
	glyphWidth  = 8
	glyphHeight = 16

	// The letters I and l of the VGA differ in one pixel, M and N in four, so more would guess.
	tolerance = 3 // pixels
)

// characters are those that the table has, in its order: the printable ASCII, and what boxes and trees are drawn with.
const characters = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~" +
	"─│┌┐└┘├┤┬┴┼═║╔╗╚╝╠╣╦╩╬"

// table is a strip of cells of 8x16 pixels for each font. All are measurements of ours: the characters were printed on
// the console of a running guest (testdata/specimen-*.png are QEMU's pictures of it) and cut out; a test cuts them out
// again and compares. The rows are the screens where a mute VM is met:
//
//  1. VGA text mode, its cells 9 pixels wide: BIOS, boot loader, a kernel without a framebuffer (SeaBIOS 1.16)
//  2. a framebuffer console, the kernel's own font (Linux 6.1)
//  3. the font "Fixed", which Debian and Ubuntu load at boot (Lat15-Fixed16 of console-setup 1.221)
//  4. the font "VGA" of the same package (Lat15-VGA16)
//
//go:embed glyphs.png
var table []byte

// glyph is a cell with one bit a pixel, 1 for ink: the upper eight rows in the first word.
type glyph [2]uint64

func (g glyph) pixels() int { return bits.OnesCount64(g[0]) + bits.OnesCount64(g[1]) }

func (g glyph) distance(h glyph) int {
	return bits.OnesCount64(g[0]^h[0]) + bits.OnesCount64(g[1]^h[1])
}

// cut takes a cell out of a picture. Ink is what differs from the paper, whatever their colours are, so coloured and
// inverse text is read as well.
func cut(img *image.Paletted, x, y int) glyph {
	g := ink(img, x, y, img.Pix[img.PixOffset(x, y)])
	if g.pixels() > glyphWidth*glyphHeight/2 { // the corner is not the paper: no character has that much ink
		g = ink(img, x, y, paper(img, x, y))
	}
	return g
}

func ink(img *image.Paletted, x, y int, paper uint8) glyph {
	var g glyph
	for dy := range glyphHeight {
		var row uint64
		for dx, c := range img.Pix[img.PixOffset(x, y+dy):][:glyphWidth] {
			if c != paper {
				row |= 1 << dx
			}
		}
		g[dy/8] |= row << (dy % 8 * 8)
	}
	return g
}

// paper is the colour of more than half of a cell, by Boyer and Moore's vote; any colour when there is none.
func paper(img *image.Paletted, x, y int) uint8 {
	var elected uint8
	votes := 0
	for dy := range glyphHeight {
		for _, c := range img.Pix[img.PixOffset(x, y+dy):][:glyphWidth] {
			switch {
			case votes == 0:
				elected, votes = c, 1
			case c == elected:
				votes++
			default:
				votes--
			}
		}
	}
	return elected
}

// withoutCursor wipes the two full rows of an underline cursor, which is in rows 13 and 14 in text mode and in rows 14
// and 15 of a framebuffer console (measured).
func (g glyph) withoutCursor() glyph {
	const both = 0xffff
	for _, row := range []int{13, 14} {
		if shift := row % 8 * 8; g[1]>>shift&both == both {
			g[1] &^= both << shift
			break
		}
	}
	return g
}

// font knows the characters to glyphs.
type font struct {
	chars map[glyph]rune
	byInk [glyphWidth*glyphHeight + 1][]glyph // the same glyphs, by how many pixels of ink they have
}

// unknown stands for what is no character that we know.
const unknown = '\uFFFD'

func loadFont() font {
	img, err := png.Decode(bytes.NewReader(table))
	if err != nil {
		panic(err) // it is compiled in, and every test reads it
	}
	strip := reduced(img)
	f := font{chars: map[glyph]rune{{}: ' '}}
	for y := 0; y < strip.Rect.Dy(); y += glyphHeight {
		for i, char := range []rune(characters) {
			g := cut(strip, i*glyphWidth, y)
			if _, taken := f.chars[g]; taken { // most are alike in two fonts, and Debian's have no double lines
				continue
			}
			f.chars[g] = char
			f.byInk[g.pixels()] = append(f.byInk[g.pixels()], g)
		}
	}
	return f
}

// read says which character a glyph is.
func (f *font) read(g glyph) rune {
	if char, ok := f.chars[g]; ok {
		return char
	}
	if char, ok := f.chars[g.withoutCursor()]; ok {
		return char
	}
	return f.nearest(g)
}

// nearest finds the one character that a glyph is close to. Two as close as each other are none: a mark misleads nobody.
func (f *font) nearest(g glyph) rune {
	char, least := unknown, tolerance+1
	n := g.pixels() // what has much more or less ink is not close
	for _, glyphs := range f.byInk[max(0, n-tolerance):min(len(f.byInk), n+tolerance+1)] {
		for _, h := range glyphs {
			switch d := g.distance(h); {
			case d < least:
				char, least = f.chars[h], d
			case d == least && f.chars[h] != char:
				char = unknown
			}
		}
	}
	return char
}
