package image

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
)

// unpackKernel takes the kernel out of a bzImage, if that can be done and QEMU can boot it so. The guest would unpack it
// itself, but an emulated CPU takes 0.3 s for that, at each boot (measured).
func unpackKernel(image []byte) ([]byte, error) {
	const ( // Documentation/x86/boot.rst
		setupSectors  = 0x1f1
		version       = 0x206
		payloadOffset = 0x248
		payloadLength = 0x24c
	)
	if len(image) < 0x250 || string(image[0x202:0x206]) != "HdrS" || binary.LittleEndian.Uint16(image[version:]) < 0x208 {
		return nil, errors.New("not a bzImage")
	}
	from := (int(image[setupSectors])+1)*512 + int(binary.LittleEndian.Uint32(image[payloadOffset:]))
	to := from + int(binary.LittleEndian.Uint32(image[payloadLength:]))
	if from > to || to > len(image) {
		return nil, errors.New("a bzImage that is cut off")
	}
	kernel, err := decompress(image[from:to])
	if err == nil && !hasPVH(kernel) {
		err = errors.New("the kernel has no PVH entry")
	}
	return kernel, err
}

func decompress(payload []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(payload, []byte{0x02, 0x21, 0x4c, 0x18}):
		return unlz4(payload[4:])
	case bytes.HasPrefix(payload, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, err
		}
		r.Multistream(false) // the length of the kernel follows
		return io.ReadAll(r)
	default:
		return nil, errors.New("compressed in another way")
	}
}

// hasPVH tells whether QEMU can start the kernel without a boot loader: by the note XEN_ELFNOTE_PHYS32_ENTRY.
func hasPVH(kernel []byte) bool {
	const phys32Entry = 18
	f, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return false
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		notes, err := io.ReadAll(p.Open())
		for err == nil && len(notes) >= 12 {
			name, desc := binary.LittleEndian.Uint32(notes), binary.LittleEndian.Uint32(notes[4:])
			if binary.LittleEndian.Uint32(notes[8:]) == phys32Entry && bytes.HasPrefix(notes[12:], []byte("Xen\x00")) {
				return true
			}
			next := 12 + (uint64(name)+3)&^3 + (uint64(desc)+3)&^3
			notes = notes[min(next, uint64(len(notes))):]
		}
	}
	return false
}

var errLZ4 = errors.New("not LZ4")

// unlz4 reads the old format of LZ4, which kernels use: blocks of at most 8 MB, each after its length, and in the end the
// length of the whole (lz4_Frame_format.md, "Legacy frame").
func unlz4(in []byte) (out []byte, err error) {
	const most = 8 << 20
	for len(in) > 4 {
		n := uint64(binary.LittleEndian.Uint32(in))
		if n == 0 || n > uint64(len(in)-4) {
			return nil, errLZ4
		}
		before := len(out)
		if out, err = unlz4Block(out, in[4:4+n]); err != nil || len(out)-before > most {
			return nil, errLZ4
		}
		in = in[4+n:]
	}
	return out, nil
}

// unlz4Block appends one block (lz4_Block_format.md). Matches do not reach back into the block before it.
func unlz4Block(out, in []byte) ([]byte, error) {
	start := len(out)
	for len(in) > 0 {
		token := in[0]
		literals, rest, ok := lz4Length(int(token>>4), in[1:])
		if !ok || literals > len(rest) {
			return nil, errLZ4
		}
		out, in = append(out, rest[:literals]...), rest[literals:]
		if len(in) == 0 {
			return out, nil // the last sequence has no match
		}
		if len(in) < 2 {
			return nil, errLZ4
		}
		back := int(in[0]) | int(in[1])<<8
		match, rest, ok := lz4Length(int(token&15), in[2:])
		if !ok || back == 0 || back > len(out)-start || len(out)-start+match > 16<<20 {
			return nil, errLZ4
		}
		for range match + 4 { // byte by byte: it may overlap itself
			out = append(out, out[len(out)-back])
		}
		in = rest
	}
	return out, nil
}

func lz4Length(n int, in []byte) (int, []byte, bool) {
	if n < 15 {
		return n, in, true
	}
	for i, b := range in {
		if n += int(b); b < 255 {
			return n, in[i+1:], true
		}
	}
	return 0, nil, false
}
