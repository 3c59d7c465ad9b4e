package image

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"strings"
)

// stages are the modules that the guest loads, by when it needs them. sd_mod asks for crct10dif by an alias, which
// nothing here would resolve.
var stages = []struct {
	name    string
	modules []string
}{
	{"net", []string{"virtio_pci", "virtio_net"}},
	{"ports", []string{"virtio_console"}},
	{"disk", []string{"crct10dif_generic", "virtio_scsi", "sd_mod"}},
}

func isModule(path string) bool {
	return strings.HasSuffix(path, ".ko") || strings.HasSuffix(path, ".ko.xz")
}

// modules adds the modules of each stage below /lib/modules, in the order in which they load, which needs no modprobe.
func (a archive) modules(ctx context.Context, files map[string][]byte) error {
	byName := map[string]string{}
	for p := range files {
		if isModule(p) {
			name, _, _ := strings.Cut(path.Base(p), ".")
			byName[strings.ReplaceAll(name, "-", "_")] = p
		}
	}
	loaded := map[string]bool{}
	for i, stage := range stages {
		var order []string
		var add func(name string) error
		add = func(name string) error {
			if loaded[name] || byName[name] == "" { // what is no module is in the kernel
				return nil
			}
			loaded[name] = true
			data, err := plainModule(ctx, byName[name], files[byName[name]])
			if err != nil {
				return err
			}
			for _, needed := range depends(data) {
				if err := add(needed); err != nil {
					return err
				}
			}
			order = append(order, name+".ko")
			a.program("/lib/modules/"+name+".ko", data)
			return nil
		}
		for _, name := range stage.modules {
			if err := add(name); err != nil {
				return err
			}
		}
		if i == 0 && len(order) == 0 {
			return fmt.Errorf("the module %s is not in it", stage.modules[0])
		}
		a.text("/lib/modules/"+stage.name, strings.Join(order, "\n")+"\n")
	}
	return nil
}

func plainModule(ctx context.Context, name string, data []byte) ([]byte, error) {
	if !strings.HasSuffix(name, ".xz") {
		return data, nil
	}
	cmd := exec.CommandContext(ctx, "xz", "-dc")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, &Missing{"this machine has no xz"}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: xz: %w", path.Base(name), err)
	}
	return out, nil
}

// depends reads what modinfo shows as depends.
func depends(module []byte) []string {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil
	}
	info, err := section.Data()
	if err != nil {
		return nil
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if names, ok := bytes.CutPrefix(field, []byte("depends=")); ok && len(names) > 0 {
			return strings.Split(strings.ReplaceAll(string(names), "-", "_"), ",")
		}
	}
	return nil
}
