package console

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bgbot/bot"
)

// save keeps attachments as files that only this user can read, and returns one line for each: its path, or why there is
// none. A message is never lost because its attachment could not be saved.
func (c *Console) save(files []bot.File) []string {
	var lines []string
	for _, f := range files {
		path, err := c.saveOne(f)
		if err != nil {
			path = fmt.Sprintf("%s was not saved: %v", fileName(f.Name), err)
		}
		lines = append(lines, path)
	}
	return lines
}

func (c *Console) saveOne(f bot.File) (string, error) {
	if c.opt.Dir == "" {
		return "", errors.New("no folder for attachments is set")
	}
	if err := os.MkdirAll(c.opt.Dir, 0o700); err != nil {
		return "", err
	}
	name := fileName(f.Name)
	ext := filepath.Ext(name)
	for n := 2; ; n++ {
		path := filepath.Join(c.opt.Dir, name)
		err := create(path, f.Data)
		if err == nil || !errors.Is(err, fs.ErrExist) {
			return path, err
		}
		name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(fileName(f.Name), ext), n, ext)
	}
}

// create writes a file that must not exist yet. A file that was not written whole is taken away again.
func create(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// fileName makes a name that is safe in any folder and easy to type: the last element of a path, ASCII letters, digits,
// dots, dashes and underscores, not hidden, at most 100 bytes.
func fileName(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		default:
			return '_'
		}
	}, name)
	name = strings.TrimLeft(name, ".-")
	if len(name) > 100 {
		name = name[:80] + name[len(name)-20:]
	}
	if name == "" {
		return "attachment"
	}
	return name
}
