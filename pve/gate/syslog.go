package gate

import (
	"fmt"
	"net"
	"os"
	"time"

	"bgbot/pve/gate/host"
)

// notice leaves a line in the host's log, where an administrator looks first: sshd does not log what a forced command was
// asked for. It goes straight to the socket, since the host's logger may hang; who listens there must not hold us up.
func (g *gate) notice(format string, args ...any) {
	const authprivNotice = 10<<3 | 5 // RFC 5424, section 6.2.1
	line := fmt.Sprintf("<%d>%s pve-gate[%d]: VM %d key=%q from=%s op=%s %s", authprivNotice, time.Now().Format(time.Stamp),
		os.Getpid(), g.vmid, g.key, g.from, g.op, fmt.Sprintf(format, args...))
	_, _ = host.Within(diskLimit, func() (struct{}, error) {
		conn, err := (&net.Dialer{Timeout: diskLimit}).Dial("unixgram", g.syslog())
		if err != nil {
			return struct{}{}, err
		}
		defer func() { _ = conn.Close() }()
		_, err = conn.Write([]byte(host.Cut(printable(line), 900)))
		return struct{}{}, err
	})
}
