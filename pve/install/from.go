package install

import (
	"fmt"
	"net/netip"
	"strings"
)

// From is where a key may be used from: addresses and networks, or any. The zero value is nothing, and no plan is made
// with it.
type From struct {
	any      bool
	prefixes []netip.Prefix
}

// Anywhere is a From that keeps nobody out.
func Anywhere() From { return From{any: true} }

// ParseFrom reads addresses and CIDR networks with commas between, or the word any. Names and wildcards are refused: a
// name would need DNS in an incident.
func ParseFrom(text string) (From, error) {
	if text == "any" {
		return Anywhere(), nil
	}
	var f From
	for part := range strings.SplitSeq(text, ",") {
		p, err := parsePrefix(part)
		if err != nil {
			return From{}, &Problem{Text: "--from: " + err.Error(), Err: err}
		}
		f.prefixes = append(f.prefixes, p)
	}
	return f, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		ip = ip.Unmap()
		if ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
			return netip.Prefix{}, fmt.Errorf("%q is no address that somebody connects from", text)
		}
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP nor a network such as 10.0.20.0/24", text)
	case p.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("%q is everybody; say any if that is meant", text)
	case p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q: write the network as IPv4", text)
	case p != p.Masked(): // sshd refuses the whole list then
		return netip.Prefix{}, fmt.Errorf("%q is an address within a network; write %s, or %s", text, p.Masked(), p.Addr())
	}
	return p, nil
}

// String is the list as sshd reads it; "any" for any.
func (f From) String() string {
	if f.any {
		return "any"
	}
	var words []string
	for _, p := range f.prefixes {
		if p.IsSingleIP() {
			words = append(words, p.Addr().String())
		} else {
			words = append(words, p.String())
		}
	}
	return strings.Join(words, ",")
}

// Contains says whether the key may be used from ip.
func (f From) Contains(ip netip.Addr) bool {
	if f.any {
		return true
	}
	for _, p := range f.prefixes {
		if p.Contains(ip.Unmap()) {
			return true
		}
	}
	return false
}

// option is the word for authorized_keys, with a comma before it.
func (f From) option() string {
	if f.any {
		return ""
	}
	return `,from="` + f.String() + `"`
}

// example is an address in f, for sshd to be asked about.
func (f From) example() netip.Addr {
	if f.any || len(f.prefixes) == 0 {
		return netip.AddrFrom4([4]byte{192, 0, 2, 1}) // RFC 5737: nobody's
	}
	return f.prefixes[0].Addr()
}

func (f From) none() bool { return !f.any && len(f.prefixes) == 0 }
