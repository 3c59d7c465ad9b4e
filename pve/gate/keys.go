package gate

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"bgbot/pve/gate/evidence"
	"bgbot/pve/qmp"
)

// keysLimit is for all keys of a guest that may be busy; qm status is given more, beside it.
const keysLimit = 4 * time.Second

// keyFiles are where OpenSSH has the public halves of its host keys (sshd_config(5), HostKey).
var keyFiles = []string{
	"/etc/ssh/ssh_host_ed25519_key.pub", "/etc/ssh/ssh_host_ecdsa_key.pub", "/etc/ssh/ssh_host_rsa_key.pub",
}

// keyTypes are those of OpenSSH's host keys that are no certificates.
var keyTypes = []string{"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"}

// hostKeys reads the guest's SSH host keys through its agent: a way that nobody on the network can stand in, so that the
// bot can tell a VM that was rebuilt from one that somebody impersonates. A guest whose disk hangs is not asked: its agent
// would hang as well.
func (g *gate) hostKeys(ctx context.Context, c *evidence.Capture) (keys []string) {
	if !c.Attentive() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, keysLimit)
	defer cancel()
	a, err := qmp.DialAgent(ctx, g.qemuFile("qga"))
	if err != nil {
		return nil
	}
	defer func() { _ = a.Close() }()
	for _, path := range keyFiles {
		const most = 4 << 10 // an RSA key of 16384 bits has 2.8 kB
		text, err := a.ReadFile(ctx, path, most)
		if err != nil {
			continue // not every guest has every type, and some agents may not read files
		}
		if key, ok := hostKey(string(text)); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// hostKey takes a key out of the text of its file, which is the guest's word: a known type, and a blob that is of it (RFC
// 4253, section 6.6).
func hostKey(text string) (key string, ok bool) {
	words := strings.Fields(text)
	if len(words) < 2 || !slices.Contains(keyTypes, words[0]) {
		return "", false
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(words[1])
	head := append(binary.BigEndian.AppendUint32(nil, uint32(len(words[0]))), words[0]...) //nolint:gosec // a name of the list
	if err != nil || !bytes.HasPrefix(blob, head) || len(blob) == len(head) {
		return "", false
	}
	return words[0] + " " + words[1], true
}
