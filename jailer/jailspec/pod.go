package jailspec

import (
	"strconv"

	"github.com/brigd/brig/internal/brig"
)

// podChildren is how many jails may be in a pod's, apps and what runs beside them.
const podChildren = 100

// PodJailName is the name of the jail that a pod's apps are in if no network gives it one.
func PodJailName(instance string, id brig.ID) string { return "brigpod-" + instance + "-" + string(id) }

// PodJail lists the commands that make what the jails of s's apps inherit, as their parent's: System V IPC, and a network stack with lo0 alone
// where no network gives one. It fills in s.Netns, whose Path is the parent jail. A jail may have no more rights than its parent, so that one has what apps
// can ask for; nobody runs in it. Without vnet a pod in no network has no loopback address either, as a container has none.
func PodJail(instance string, vnet bool, s *brig.Sandbox) (out [][]string) {
	ipc := []string{"sysvmsg=new", "sysvsem=new", "sysvshm=new"}
	if s.Netns.Kind == brig.NetnsPath {
		return [][]string{append([]string{"jail", "-m", "name=" + s.Netns.Path}, ipc...)}
	}
	name := PodJailName(instance, s.ID)
	argv := append([]string{"jail", "-c", "name=" + name, "path=/", "persist", "children.max=" + strconv.Itoa(podChildren), "enforce_statfs=0"}, ipc...)
	for _, a := range allowed {
		argv = append(argv, "allow."+a.permission)
	}
	argv = append(argv, "allow.quotas", "allow.socket_af", "allow.suser")
	if s.Netns.Kind == brig.NetnsHost {
		s.Netns.Path = name
		return append(out, append(argv, "ip4=inherit", "ip6=inherit"))
	}
	s.Netns = brig.Netns{Kind: brig.NetnsPath, Path: name}
	if !vnet {
		return append(out, append(argv, "ip4=disable", "ip6=disable"))
	}
	return append(out, append(argv, "vnet"), []string{"jexec", name, "ifconfig", "lo0", "inet", "127.0.0.1/8", "up"})
}
