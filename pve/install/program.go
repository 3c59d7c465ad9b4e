package install

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Program is a pve-gate for the host, read into memory.
type Program struct {
	File    string
	Machine string // as uname -m says it: x86_64, aarch64
	data    []byte
}

// gatePackage is what the build of a real pve-gate says that it is.
const gatePackage = "bgbot/cmd/pve-gate"

// ReadProgram reads a pve-gate and checks that it is one: for Linux, static, of a known machine.
func ReadProgram(file string) (Program, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Program{}, &Problem{Text: "The pve-gate " + file + " cannot be read: " + cause(err).Error() + ".", Err: err}
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil || info.Path != gatePackage {
		return Program{}, problem("%s is not a pve-gate. `make build` makes bin/pve-gate.", file)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return Program{}, problem("%s is not for Linux. Build it with: GOOS=linux CGO_ENABLED=0 go build ./cmd/pve-gate", file)
	}
	p := Program{File: file, Machine: machines[f.Machine], data: data}
	if p.Machine == "" {
		return Program{}, problem("%s is for %s; there is no Proxmox for that.", file, f.Machine)
	}
	for _, part := range f.Progs {
		if part.Type == elf.PT_INTERP {
			return Program{}, problem("%s needs libraries that the host may not have. Build it with: CGO_ENABLED=0 go build ./cmd/pve-gate", file)
		}
	}
	return p, nil
}

var machines = map[elf.Machine]string{elf.EM_X86_64: "x86_64", elf.EM_AARCH64: "aarch64"}

// FindProgram looks in a folder for a pve-gate of the machine; with machine "" the first is taken.
func FindProgram(dir, machine string) (Program, error) {
	var found []string
	for _, name := range []string{"pve-gate", "pve-gate-linux-amd64", "pve-gate-linux-arm64"} {
		p, err := ReadProgram(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return Program{}, err
		case machine == "" || p.Machine == machine:
			return p, nil
		}
		found = append(found, name+" is for "+p.Machine)
	}
	switch {
	case len(found) > 0:
		return Program{}, problem("The Proxmox host is %s, but in %s %s. Name the right one with --binary.", machine, dir, strings.Join(found, " and "))
	default:
		return Program{}, problem("There is no pve-gate in %s, beside bgbot. Put it there, or name it with --binary.", dir)
	}
}

func (p Program) sum() string { return checksum(p.data) }

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// cause is an error of the file system without the path, which the sentence has already.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
