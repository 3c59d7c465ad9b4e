package sshagent

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// binding is what session-bind@openssh.com says (OpenSSH PROTOCOL.agent, section 1): the connection to this agent
// serves the SSH session that the host signed for.
type binding struct {
	HostKey    []byte
	SessionID  []byte
	Signature  []byte
	Forwarding bool
}

// parseBinding reads the contents of the extension and proves it: only the host's private key makes this signature.
func parseBinding(contents []byte) (ssh.PublicKey, []byte, error) {
	var b binding
	if err := ssh.Unmarshal(contents, &b); err != nil {
		return nil, nil, errors.New("a session-bind that cannot be parsed")
	}
	if b.Forwarding {
		return nil, nil, errors.New("agent forwarding is not served")
	}
	host, err := ssh.ParsePublicKey(b.HostKey)
	if err != nil {
		return nil, nil, errors.New("a session-bind with a host key that cannot be parsed")
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal(b.Signature, &sig); err != nil {
		return nil, nil, errors.New("a session-bind with a signature that cannot be parsed")
	}
	if len(b.SessionID) == 0 {
		return nil, nil, errors.New("a session-bind without a session")
	}
	if err := host.Verify(b.SessionID, &sig); err != nil {
		return nil, nil, errors.New("a session-bind that the host did not sign")
	}
	return host, b.SessionID, nil
}

const (
	methodPublicKey = "publickey"                           // RFC 4252, section 7
	methodHostBound = "publickey-hostbound-v00@openssh.com" // OpenSSH PROTOCOL, section 3.1

	msgUserauthRequest = 50
)

// userauth is what a client has signed to log in. The layout is RFC 4252, section 7; hostbound adds the host key.
type userauth struct {
	SessionID []byte
	Message   byte
	User      string
	Service   string
	Method    string
	Signed    bool
	Algorithm string
	Key       []byte
	Rest      []byte `ssh:"rest"`
}

// parseUserauth accepts data that is exactly a login by public key, and nothing else: no file signature, no other
// protocol, no bytes behind it. host is nil for the method that names none.
func parseUserauth(data []byte) (u userauth, host []byte, err error) {
	if err := ssh.Unmarshal(data, &u); err != nil {
		return userauth{}, nil, errors.New("the data to sign is not a login")
	}
	if u.Message != msgUserauthRequest || u.Service != "ssh-connection" || !u.Signed {
		return userauth{}, nil, errors.New("the data to sign is not a login")
	}
	switch u.Method {
	case methodPublicKey:
		if len(u.Rest) > 0 {
			return userauth{}, nil, errors.New("the login has bytes behind its end")
		}
	case methodHostBound:
		var h struct{ Key []byte }
		if err := ssh.Unmarshal(u.Rest, &h); err != nil {
			return userauth{}, nil, errors.New("the login names no host key")
		}
		host = h.Key
	default:
		return userauth{}, nil, fmt.Errorf("the login is by %.40q, not by public key", u.Method)
	}
	// One login has one encoding; whatever does not come back as it was is somebody's trick.
	if !bytes.Equal(ssh.Marshal(u), data) {
		return userauth{}, nil, errors.New("the login is encoded in an odd way")
	}
	return u, host, nil
}
