package lab

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// reservation is a port that refuses connections until the guest listens on it, and that nobody else can get: bound, but
// not listening. The guest's process may bind it too because both set SO_REUSEPORT, or, as a real QEMU and sshd do,
// SO_REUSEADDR.
type reservation struct {
	number int
	socket int
}

func reservePort() (*reservation, error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	r := &reservation{socket: socket}
	err = errors.Join(unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	if err == nil {
		err = unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), r.release())
	}
	name, err := unix.Getsockname(socket)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("getsockname", err), r.release())
	}
	r.number = name.(*unix.SockaddrInet4).Port //nolint:forcetypeassert // bound to IPv4 above
	return r, nil
}

func (r *reservation) release() error { return unix.Close(r.socket) }

// listenShared listens on an address that the lab has reserved.
func listenShared(ctx context.Context, address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		ctlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		return errors.Join(ctlErr, err)
	}}
	return config.Listen(ctx, "tcp", address)
}
