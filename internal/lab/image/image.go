// Package image makes the guest of the QEMU lab: a kernel and an initramfs, from the Debian packages that `make deps`
// downloads and from programs of this machine. It owns what is in the guest, its programs and services; it does not start
// it, and knows neither Proxmox nor the incidents that are practised in it.
package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// Image is a guest that can be booted. The files are shared by all labs, so nothing in them belongs to one of them;
// [Own] makes what does.
type Image struct {
	Kernel string // for QEMU's -kernel
	Base   string // an initramfs, not compressed, to which [Own] is appended
}

// Missing says what the guest cannot be made of.
type Missing struct{ What string }

func (e *Missing) Error() string {
	return "the QEMU lab's guest cannot be built: " + e.What + "; `make deps` gets what it needs"
}

// UserMessage is the error as a person reads it.
func (e *Missing) UserMessage() string { return e.Error() }

// Find looks for the folder that `make deps` fills: beside the folder of the executable, then in the working directory
// and above it. Its error is a [*Missing].
func Find(executable string) (cache string, err error) {
	var roots []string
	if executable != "" {
		roots = append(roots, filepath.Dir(filepath.Dir(executable)))
	}
	if dir, err := os.Getwd(); err == nil {
		for ; filepath.Dir(dir) != dir; dir = filepath.Dir(dir) {
			roots = append(roots, dir)
		}
	}
	for _, root := range roots {
		cache := filepath.Join(root, ".cache", "guest")
		if _, err := findPackages(cache); err == nil {
			return cache, nil
		}
	}
	return "", &Missing{"there is no .cache/guest with the kernel's package"}
}

// Build makes the image in the cache, or finds it there: its name is a sum of all that goes into it. It takes about a
// second, and any number of processes may do it at once. Its error is a [*Missing] for what `make deps` would have got.
func Build(ctx context.Context, cache string) (Image, error) {
	if runtime.GOARCH != "amd64" {
		return Image{}, errors.New("the QEMU lab runs on amd64 only: its guest has programs of this machine in it")
	}
	p, err := findPackages(cache)
	if err != nil {
		return Image{}, err
	}
	programs, err := findPrograms()
	if err != nil {
		return Image{}, err
	}
	key, err := sum(append(slices.Clone(programs.files()), p.kernel, p.agent))
	if err != nil {
		return Image{}, err
	}
	dir := filepath.Join(cache, "image-"+key)
	i := Image{Kernel: filepath.Join(dir, "kernel"), Base: filepath.Join(dir, "base.cpio")}
	if _, err := os.Stat(dir); err == nil {
		return i, nil
	}
	part, err := os.MkdirTemp(cache, "part-")
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = os.RemoveAll(part) }()
	if err := p.build(ctx, part, programs); err != nil {
		return Image{}, err
	}
	if err := os.Rename(part, dir); err != nil && !errors.Is(err, os.ErrExist) { // somebody else was quicker
		return Image{}, err
	}
	return i, nil
}

// layout is what an image is made from; it counts with the inputs when that changes.
const layout = "2"

// sum names files by what tells them apart without reading 30 MB each time.
func sum(files []string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, layout)
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, f, info.Size(), info.ModTime().UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}
