package install

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Our lines in an authorized_keys stand between two comments, which name what they are for. Everything else in the file
// is somebody else's, and stays as it is to the byte.
const (
	blockBegin = "# bgbot %s begin: made by `bgbot gate install`, which replaces what stands between these two comments"
	blockEnd   = "# bgbot %s end"
)

// block is our part of a file.
type block struct {
	name  string // vm102
	lines []string
}

func (b block) text() string {
	return fmt.Sprintf(blockBegin, b.name) + "\n" + strings.Join(b.lines, "\n") + "\n" + fmt.Sprintf(blockEnd, b.name) + "\n"
}

// put returns content with the block in it: where it stood, or at the top. The top and not the end, because the last line
// of the file need not have a line end, and it is not ours to give it one.
func (b block) put(content []byte) ([]byte, error) {
	from, to, err := b.find(content)
	if err != nil {
		return nil, err
	}
	return splice(content, from, to, b.text()), nil
}

// drop returns content without the block.
func (b block) drop(content []byte) ([]byte, error) {
	from, to, err := b.find(content)
	if err != nil {
		return nil, err
	}
	return splice(content, from, to, ""), nil
}

// find says where the block stands; nowhere is 0, 0.
func (b block) find(content []byte) (from, to int, err error) {
	begins, ends, at := 0, 0, 0
	for line := range bytes.Lines(content) {
		switch b.marker(line) {
		case "begin:":
			begins++
			from = at
		case "end":
			ends++
			to = at + len(line)
		}
		at += len(line)
	}
	switch {
	case begins == 0 && ends == 0:
		return 0, 0, nil
	case begins == 1 && ends == 1 && from < to:
		return from, to, nil
	}
	return 0, 0, problem("the comments around bgbot's block %s do not fit together (%d begin, %d end); remove the block by hand, then run this again", b.name, begins, ends)
}

// marker is "begin:" or "end" for the two comments of this block.
func (b block) marker(line []byte) string {
	words := strings.Fields(string(line))
	if len(words) >= 4 && words[0] == "#" && words[1] == "bgbot" && words[2] == b.name {
		return words[3]
	}
	return ""
}

// others names the blocks of ours for other VMs.
func (b block) others(content []byte) []string {
	var names []string
	for line := range bytes.Lines(content) {
		words := strings.Fields(string(line))
		if len(words) >= 4 && words[0] == "#" && words[1] == "bgbot" && words[3] == "begin:" && words[2] != b.name {
			names = append(names, words[2])
		}
	}
	return names
}

// stranger finds a line outside of the block that lets one of the keys in. sshd takes the first line that fits, so such
// a line could give more than ours; it returns the line's number, or 0.
func (b block) stranger(content []byte, keys []ssh.PublicKey) int {
	from, to, err := b.find(content)
	if err != nil {
		return 0
	}
	at, number := 0, 0
	for line := range bytes.Lines(content) {
		begins := at
		at += len(line)
		number++
		if begins >= from && begins < to {
			continue
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey(line)
		if err != nil {
			continue
		}
		for _, k := range keys {
			if equal(k, key) {
				return number
			}
		}
	}
	return 0
}

func splice(content []byte, from, to int, with string) []byte {
	var out bytes.Buffer
	out.Write(content[:from])
	out.WriteString(with)
	out.Write(content[to:])
	return out.Bytes()
}
