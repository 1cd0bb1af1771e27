//go:build linux || freebsd

package jailer

import (
	"net"
	"os"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/shim"
)

// syslogOf tells the shim where to send output to. The shim asks no name server: a name is looked up here, once for each start.
func syslogOf(s *brig.Syslog) (shim.Syslog, error) {
	if s == nil {
		return shim.Syslog{}, nil
	}
	out := shim.Syslog{Network: s.Network, Address: s.Address, Facility: s.Facility, Format: s.Format, Tag: s.Tag, Hostname: s.Hostname}
	failed := func(err error) (shim.Syslog, error) {
		return out, errs.New(errs.Invalid, "failed to initialize logging driver: %w", err)
	}
	switch s.Network {
	case "":
		for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
			if st, err := os.Stat(path); err == nil && st.Mode().Type() == os.ModeSocket {
				out.Network, out.Address = "unixgram", path
				return out, nil
			}
		}
		return out, errs.New(errs.Invalid, "failed to initialize logging driver: Unix syslog delivery error: no syslog listens on this host")
	case "tcp":
		a, err := net.ResolveTCPAddr("tcp", s.Address)
		if err != nil {
			return failed(err)
		}
		out.Address = a.String()
	case "udp":
		a, err := net.ResolveUDPAddr("udp", s.Address)
		if err != nil {
			return failed(err)
		}
		out.Address = a.String()
	}
	return out, nil
}
