package jailspec

import "github.com/brigd/brig/internal/brig"

// network says whose network stack the jail has. One in a network is the child of a jail that was made for its network stack alone, which package
// network has configured; it inherits that one's stack and addresses, or the addresses alone where networks share the host's stack.
func network(in *Input, b *Bundle) ([]string, error) {
	switch in.Jail.Netns.Kind {
	case brig.NetnsHost, brig.NetnsPath:
		b.number("ip4", sysInherit)
		b.number("ip6", sysInherit)
	default:
		if !in.Host.VNET {
			b.number("ip4", sysDisable)
			b.number("ip6", sysDisable)
			return []string{"The kernel has no VNET: a container without a network has no loopback addresses either."}, nil
		}
		b.number("vnet", sysNew)
		b.Alone = true
	}
	return nil, nil
}

// ownStack reports whether raw sockets reach nobody but the jail's own networks.
func ownStack(in *Input) bool {
	return in.Jail.Netns.Kind != brig.NetnsHost && !(in.Jail.Netns.Kind == brig.NetnsPath && in.Host.Shared)
}
