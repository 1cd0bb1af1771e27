//go:build !linux

package testbed

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
)

var errLinux = errors.New("needs Linux's namespaces")

// Separate is false: there are no network namespaces that tests could have to themselves.
const Separate = false

// Inside is never so here.
func Inside() bool { return false }

// Dir is none here.
func Dir() string { return "" }

// Reenter fails.
func Reenter() (int, error) { return 1, errLinux }

// LoopbackUp fails.
func LoopbackUp() error { return errLinux }

// Neighbour is none here.
type Neighbour struct{ Here netip.Addr }

// NewNeighbour fails.
func NewNeighbour(context.Context) (*Neighbour, error) { return nil, errLinux }

// Dial fails.
func (*Neighbour) Dial(context.Context, string, string) (net.Conn, error) { return nil, errLinux }

// Close does nothing.
func (*Neighbour) Close() error { return nil }

// DialIn fails.
func DialIn(context.Context, *os.File, string, string) (net.Conn, error) { return nil, errLinux }
