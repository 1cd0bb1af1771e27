package network

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// nic is an interface as FreeBSD's ifconfig(8) shows it.
type nic struct {
	name, descr  string
	up, loopback bool
	groups       []string
	members      []string       // of a bridge
	addrs        []netip.Prefix // link-local ones without their zone
}

// parseNICs reads what `ifconfig -a` prints. Lines that it doesn't know are passed over.
func parseNICs(text string) (out []nic, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "" {
			continue
		}
		if line[0] != '\t' && line[0] != ' ' {
			name, rest, ok := strings.Cut(line, ": flags=")
			if !ok {
				return nil, errs.New(errs.Internal, "ifconfig says %q, which is no interface", line)
			}
			n := nic{name: name}
			_, flags, _ := strings.Cut(rest, "<")
			flags, _, _ = strings.Cut(flags, ">")
			for _, f := range strings.Split(flags, ",") {
				n.up, n.loopback = n.up || f == "UP", n.loopback || f == "LOOPBACK"
			}
			out = append(out, n)
			continue
		}
		if len(out) == 0 {
			return nil, errs.New(errs.Internal, "ifconfig says %q before any interface", line)
		}
		if err := out[len(out)-1].read(line); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// read takes one line of an interface's.
func (n *nic) read(line string) error {
	key, rest, _ := strings.Cut(strings.TrimPrefix(line, "\t"), " ")
	f := strings.Fields(rest)
	switch {
	case key == "description:":
		n.descr = rest
	case key == "groups:":
		n.groups = f
	case key == "member:" && len(f) > 0:
		n.members = append(n.members, f[0])
	case (key == "inet" || key == "inet6") && len(f) > 0:
		p, err := parseAddr(f)
		if err != nil {
			return errs.As(errs.Internal, errs.Wrap(err, "ifconfig says %q of interface %s", line, n.name))
		}
		n.addrs = append(n.addrs, p)
	}
	return nil
}

// parseAddr reads "10.0.0.1 netmask 0xffffff00 …", "10.0.0.1/24 …", "fe80::1%lo0 prefixlen 64 …" and their likes with a peer, "--> ADDR".
func parseAddr(f []string) (netip.Prefix, error) {
	text, length, has := strings.Cut(f[0], "/")
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.WithZone("")
	for i := 1; !has && i+1 < len(f); i++ {
		if length, has = f[i+1], f[i] == "netmask" || f[i] == "prefixlen"; has && strings.HasPrefix(length, "0x") {
			b, err := hex.DecodeString(length[2:])
			if err != nil || len(b) != 4 {
				return netip.Prefix{}, errs.New(errs.Invalid, "no netmask: %s", length)
			}
			m := binary.BigEndian.Uint32(b)
			bits := 0
			for ; m&(1<<31) != 0; m <<= 1 {
				bits++
			}
			length = strconv.Itoa(bits)
		}
	}
	bits := a.BitLen()
	if has {
		if bits, err = strconv.Atoi(length); err != nil {
			return netip.Prefix{}, err
		}
	}
	p := netip.PrefixFrom(a, bits)
	if !p.IsValid() {
		return p, errs.New(errs.Invalid, "no prefix length: %d", bits)
	}
	return p, nil
}

// parseCreated reads the name that `ifconfig epair create` prints, and gives both ends'.
func parseCreated(text string) (a, b string, err error) {
	a = strings.TrimSpace(text)
	number, isA := strings.CutSuffix(strings.TrimPrefix(a, "epair"), "a")
	if _, err := strconv.ParseUint(number, 10, 31); err != nil || !isA || !strings.HasPrefix(a, "epair") {
		return "", "", errs.New(errs.Internal, "ifconfig made an epair and says %q, not its name", text)
	}
	return a, strings.TrimSuffix(a, "a") + "b", nil
}

// parseJails reads what `jls name` prints: of each jail its name, with its parents'; and counts how many it has in it. children.cur counts those too that
// are dying, which a connection's TIME_WAIT may hold for a minute.
func parseJails(text string) (map[string]int, error) {
	out := map[string]int{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 1 {
			return nil, errs.New(errs.Internal, "jls says %q, which is no name", line)
		}
		for _, name := range f {
			out[name] += 0
			for i, c := range name {
				if c == '.' {
					out[name[:i]]++
				}
			}
		}
	}
	return out, nil
}

// parseRoute reads what `route -n get default` prints.
func parseRoute(text string) (r route) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "gateway":
			if a, err := netip.ParseAddr(value); err == nil {
				r.via = a.WithZone("")
			}
		case "interface":
			r.iface = value
		}
	}
	return r
}

// parseAnchors gives those of pfAnchors that are not among the main rules: text is what `pfctl -s nat` and `pfctl -s rules` print.
func parseAnchors(text string) (lacking []string) {
	for _, want := range pfAnchors {
		found := false
		for line := range strings.Lines(text) {
			have, ok := strings.CutPrefix(strings.TrimSpace(line), want)
			found = found || ok && (have == "" || have == " all")
		}
		if !found {
			lacking = append(lacking, want)
		}
	}
	return lacking
}
