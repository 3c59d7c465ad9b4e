package pve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// Why says what kept us from a host.
type Why string

// All the reasons.
const (
	ConnectionRefused Why = "refused"          // nothing listens on the port
	TimedOut          Why = "timeout"          // a black hole: no answer to the TCP connect
	NoRoute           Why = "no route"         // the network does not know the way, or the name
	HandshakeHung     Why = "handshake hung"   // something accepts and never speaks SSH
	Closed            Why = "closed"           // the other side, or we, hung up before the login was done
	HostKeyChanged    Why = "host key changed" // not the machine we know; Want and Got say more
	LoginRefused      Why = "login refused"    // our key is not let in
	Stuck             Why = "stuck"            // the login works, commands do not come back
	Full              Why = "full"             // the login works, sshd allows no further session
	Lost              Why = "lost"             // the link broke under a verb that changes nothing
)

// Unreachable is why a host could not be reached. Nothing was changed on it.
type Unreachable struct {
	Host string // its name and address
	Why  Why
	Err  error

	Want, Got string        // of a changed host key: the SHA256 fingerprints; Got is empty when no key of the type is offered
	Presented ssh.PublicKey // the key of Got, where the wanted one is pinned; else nil
	byCA      bool          // Want is an authority
}

func (e *Unreachable) Error() string { return fmt.Sprintf("%s: %s: %v", e.Host, e.Why, e.Err) }

func (e *Unreachable) Unwrap() error { return e.Err }

// UserMessage is the error as a person reads it: what is wrong, and the mend.
func (e *Unreachable) UserMessage() string {
	switch {
	case errors.Is(e.Err, context.Canceled):
		return e.Host + " was not reached: the attempt was cancelled."
	case errors.Is(e.Err, errClosed):
		return e.Host + " was not asked: this side is shutting down."
	}
	switch e.Why {
	case ConnectionRefused:
		return e.Host + " refuses the connection: nothing listens on the port. Check that it has booted and that sshd runs."
	case TimedOut:
		return e.Host + " does not answer at all: it is off, hung, or a firewall drops the packets. Check its power and the network."
	case NoRoute:
		return e.Host + " cannot be found from here: there is no route to it. Check the address, the VPN and the network policy."
	case HandshakeHung:
		return e.Host + " accepts the connection but does not speak SSH: the machine is likely hung."
	case HostKeyChanged:
		return e.hostKeyMessage()
	case LoginRefused:
		return e.Host + " refuses our key. Check its authorized_keys: the key, and that from= allows this address."
	case Stuck:
		return e.Host + " lets us in, but commands do not come back: the machine is likely hung."
	case Full:
		return e.Host + " allows no further session on our connection. Raise MaxSessions in its sshd_config to 10 or more."
	case Lost:
		return "The link to " + e.Host + " broke before there was an answer. Nothing was changed; try again."
	case Closed:
		return e.Host + " closed the connection before the login was done. It may be starting, shutting down or shedding load; try again."
	}
	return e.Host + " cannot be reached."
}

func (e *Unreachable) hostKeyMessage() string {
	switch {
	case e.byCA && e.Got == "":
		return fmt.Sprintf("%s offers no host certificate, so we do not talk to it. Sign its host key with the CA %s and set HostCertificate.", e.Host, e.Want)
	case e.byCA:
		return fmt.Sprintf("%s shows a host certificate that does not hold, so we do not talk to it (%v). It must be signed by the CA %s "+
			"and name this host; the host key is %s.", e.Host, e.Err, e.Want, e.Got)
	case e.Got == "":
		return fmt.Sprintf("%s offers no host key of the pinned kind (expected %s), so we do not talk to it. "+
			"If it was reinstalled, compare its key at the console and update the pin.", e.Host, e.Want)
	}
	return fmt.Sprintf("%s shows a host key that is not the expected one, so we do not talk to it: expected %s, got %s (%v). "+
		"If it was reinstalled, compare the key at its console and update the pin; if not, someone may be in between.",
		e.Host, e.Want, e.Got, e.Err)
}

func (h Host) unreachable(why Why, err error) *Unreachable {
	e := &Unreachable{Host: h.at(), Why: why, Err: err}
	if why == HostKeyChanged {
		want := h.HostKey
		if want == nil {
			want, e.byCA = h.HostCA, true
		}
		e.Want = ssh.FingerprintSHA256(want)
	}
	return e
}

// refusal translates sshd's refusal to open a session, which is no fault of the link; nil for any other error.
func (h Host) refusal(err error) error {
	if _, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
		return h.unreachable(Full, err)
	}
	return nil
}

func whyDial(err error) Why {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return ConnectionRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), isNoName(err):
		return NoRoute
	case errors.As(err, &timeout) && timeout.Timeout():
		return TimedOut
	}
	return Closed
}

func isNoName(err error) bool {
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

// whyHandshake sorts the errors of x/crypto/ssh, which has types for two of them only.
func whyHandshake(err error) Why {
	if _, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err); ok && strings.Contains(err.Error(), "host key") {
		return HostKeyChanged
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return HandshakeHung
	case strings.Contains(err.Error(), "unable to authenticate"):
		return LoginRefused
	}
	return Closed
}
