//go:build !linux

package keeper

import (
	"context"
	"net"
	"net/netip"

	"github.com/brigd/brig/internal/errs"
)

// dnsAddr is where resolv.conf of a container leads on Linux.
var dnsAddr = netip.MustParseAddr("127.0.0.11")

type visitor struct{}

func newVisitor() (*visitor, error) { return &visitor{}, nil }
func (*visitor) close()             {}

// space refuses: a resolver on this system listens on addresses of the host.
type space struct{}

func openSpace(path string, _ *visitor) (*space, error) {
	return nil, errs.New(errs.NotImplemented, "network namespace %s: there are none on this system", path)
}

func (*space) current() bool                                   { return false }
func (*space) close()                                          {}
func (*space) listen() (*net.UDPConn, *net.TCPListener, error) { return nil, nil, net.ErrClosed }
func (*space) redirect(uint16, uint16) error                   { return net.ErrClosed }
func (*space) dial(context.Context, string, netip.AddrPort) (net.Conn, error) {
	return nil, net.ErrClosed
}
