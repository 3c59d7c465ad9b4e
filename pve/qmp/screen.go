package qmp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxScreen bounds the picture: 64 MiB are 5472 x 4096 pixels.
const maxScreen = 64 << 20

// Screen is what the guest shows on its first display, as a PPM (P6). A guest without a display is a *[CommandError].
//
// It is always PPM, because PNG needs a library that Proxmox's QEMU is built without, and it never touches a disk, which
// may be what is stuck: QEMU writes into our memory through a descriptor that the socket carries.
func (m *Monitor) Screen(ctx context.Context) (_ []byte, err error) {
	memory, pen, err := sheet()
	if err != nil {
		return nil, fmt.Errorf("memory for the screen: %w", err)
	}
	defer func() {
		// QEMU may keep its copy of the descriptor: for good if it did not answer, and if the VM is paused until a client
		// leaves while it runs (monitor_fdset_cleanup in QEMU 7.2; measured). It shall not keep the memory.
		_ = memory.Truncate(0)
		_, _ = memory.Close(), pen.Close()
	}()
	var set struct {
		ID int `json:"fdset-id"`
	}
	if err := m.do(ctx, "add-fd", nil, &set, int(pen.Fd())); err != nil {
		return nil, err
	}
	err = m.Do(ctx, "screendump", map[string]any{"filename": fmt.Sprintf("/dev/fdset/%d", set.ID)}, nil)
	if removed := m.Do(ctx, "remove-fd", map[string]any{"fdset-id": set.ID}, nil); err == nil {
		err = removed
	}
	if err != nil {
		return nil, err
	}
	return contents(memory)
}

// sheet is a file in memory and a descriptor that can only write to it: QEMU wants the mode it opens with, and refuses
// one that can read as well with "Permission denied".
func sheet() (memory, pen *os.File, _ error) {
	fd, err := unix.MemfdCreate("screen", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	memory = os.NewFile(uintptr(fd), "screen")
	pen, err = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_WRONLY, 0)
	if err != nil {
		_ = memory.Close()
		return nil, nil, err
	}
	return memory, pen, nil
}

func contents(memory *os.File) ([]byte, error) {
	info, err := memory.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.Size() == 0:
		return nil, errors.New("screendump: QEMU wrote nothing")
	case info.Size() > maxScreen:
		return nil, fmt.Errorf("screendump: a picture of %d bytes; at most %d are read", info.Size(), maxScreen)
	}
	picture := make([]byte, info.Size())
	if _, err := io.ReadFull(io.NewSectionReader(memory, 0, info.Size()), picture); err != nil {
		return nil, fmt.Errorf("screendump: %w", err)
	}
	return picture, nil
}
