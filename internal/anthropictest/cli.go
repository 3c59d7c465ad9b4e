package anthropictest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// CLIVersion is the version of the claude CLI that this server was written for.
const CLIVersion = "2.1.330"

// FindCLI is where the pinned claude CLI is: $BGBOT_CLAUDE, else the project's own install (make deps), else claude on
// PATH if it is of the pinned version. The error says how to get it.
func FindCLI() (string, error) {
	if path := os.Getenv("BGBOT_CLAUDE"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("BGBOT_CLAUDE names no file: %w", err)
		}
		return path, nil
	}
	if root, err := projectRoot(); err == nil {
		path := filepath.Join(root, ".cache", "claude-"+CLIVersion, "node_modules", ".bin", "claude")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("claude")
	if err != nil {
		return "", fmt.Errorf("claude %s is not installed; run `make deps`", CLIVersion)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil || !strings.HasPrefix(string(out), CLIVersion+" ") {
		return "", fmt.Errorf("%s is not claude %s (it says %q); run `make deps`", path, CLIVersion, strings.TrimSpace(string(out)))
	}
	return path, nil
}

// projectRoot walks up to the folder with go.mod.
func projectRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = parent
	}
}
