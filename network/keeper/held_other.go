//go:build !freebsd

package keeper

import "net/netip"

// held has nothing to find: Linux lets nobody listen where another socket has the port without SO_REUSEADDR, whatever address that is on.
func held(netip.AddrPort) bool { return false }
