package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// packages are the Debian packages that are unpacked but not installed.
type packages struct{ kernel, agent string }

func findPackages(cache string) (p packages, err error) {
	if p.kernel, err = newest(cache, "linux-image-*-cloud-amd64_*.deb"); err == nil {
		p.agent, err = newest(cache, "qemu-guest-agent_*.deb")
	}
	return p, err
}

func newest(cache, pattern string) (string, error) {
	names, err := filepath.Glob(filepath.Join(cache, pattern))
	if err != nil || len(names) == 0 {
		return "", &Missing{fmt.Sprintf("there is no %s in %s", pattern, cache)}
	}
	age := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	return slices.MaxFunc(names, func(a, b string) int { return int(min(1, max(-1, age(a)-age(b)))) }), nil
}

// unpack returns the files of a package whose path takes accepts, by that path.
func unpack(ctx context.Context, deb string, takes func(path string) bool) (map[string][]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // nobody reads on after an error
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, &Missing{err.Error()}
	}
	files := map[string][]byte{}
	for r := tar.NewReader(out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		var data []byte
		if err == nil && h.Typeflag == tar.TypeReg && takes(strings.TrimPrefix(h.Name, ".")) {
			if data, err = io.ReadAll(r); err == nil {
				files[strings.TrimPrefix(h.Name, ".")] = data
			}
		}
		if err != nil {
			cancel()
			return nil, fmt.Errorf("%s: %w: %s", filepath.Base(deb), errors.Join(err, cmd.Wait()), bytes.TrimSpace(said.Bytes()))
		}
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(deb), err, bytes.TrimSpace(said.Bytes()))
	}
	return files, nil
}

// build fills dir with a kernel and a base.
func (p packages) build(ctx context.Context, dir string, programs programs) error {
	fromKernel, err := unpack(ctx, p.kernel, func(path string) bool {
		return strings.HasPrefix(path, "/boot/vmlinuz-") || isModule(path)
	})
	if err != nil {
		return err
	}
	fromAgent, err := unpack(ctx, p.agent, func(path string) bool { return path == agentPath })
	if err != nil {
		return err
	}
	kernel, err := kernelOf(fromKernel)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(p.kernel), err)
	}
	base := archive{}
	if err := base.modules(ctx, fromKernel); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(p.kernel), err)
	}
	if err := base.programs(ctx, dir, programs, fromAgent[agentPath]); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := base.write(&b); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "kernel"), kernel, 0o600), os.WriteFile(filepath.Join(dir, "base.cpio"), b.Bytes(), 0o600))
}

// kernelOf is the kernel as Debian has it. Unpacked, QEMU could start it 0.3 s sooner, through its PVH entry; but then
// nobody tells it of the VGA screen, and what it has to say, such as that it panics, is on none (measured).
func kernelOf(files map[string][]byte) ([]byte, error) {
	for path, kernel := range files {
		if !isModule(path) {
			return kernel, nil
		}
	}
	return nil, errors.New("there is no kernel in it")
}
