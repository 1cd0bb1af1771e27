package jailspec

import "github.com/brigd/brig/internal/brig"

// network says whose network stack the jail has. One in a network is the child of a jail that was made for its network stack alone, which package
// network has configured; it inherits that one's stack and addresses.
func network(in *Input, b *Bundle) ([]string, error) {
	switch in.Jail.Netns.Kind {
	case brig.NetnsHost, brig.NetnsPath:
		b.number("ip4", sysInherit)
		b.number("ip6", sysInherit)
	default:
		b.number("vnet", sysNew)
	}
	return nil, nil
}

// ownStack reports whether raw sockets reach nobody but the jail's own networks.
func ownStack(in *Input) bool { return in.Jail.Netns.Kind != brig.NetnsHost }
