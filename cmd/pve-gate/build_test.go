package main

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The gate is copied to a host by hand, at night: one file that needs nothing there.
func TestTheGateIsOneSmallStaticFile(t *testing.T) {
	t.Parallel()
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "pve-gate")
			cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if info, err := os.Stat(path); err != nil || info.Size() > 8<<20 {
				t.Errorf("it has %d bytes, more than 8 MiB (%v)", info.Size(), err)
			}
			f, err := elf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if f.Machine != machine {
				t.Errorf("it is for %s", f.Machine)
			}
			for _, p := range f.Progs {
				if p.Type == elf.PT_INTERP {
					t.Error("it needs a loader and libraries")
				}
			}
			if arch == runtime.GOARCH {
				rejects(t, path)
			}
		})
	}
}

// rejects runs it as sshd would for somebody who wants a shell.
func rejects(t *testing.T, path string) {
	t.Helper()
	var errOut bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, "--vmid", "102", "--run-dir", t.TempDir(), "--state-dir", t.TempDir())
	cmd.Env = []string{"GODEBUG=x", "LC_PVE_TICKET=x"}
	cmd.Stderr = &errOut
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(errOut.String(), "No verb was given") {
		t.Errorf("exit %d, %q", code, errOut.String())
	}
}
