package jailspec

import (
	"slices"
	"strings"

	"github.com/brigd/brig/jailer/ocispec"
)

// allowed maps Linux's capabilities to jail(8)'s permissions. No capability gives allow.mount, nor any of its kind: what is mounted in a jail
// is mounted by brig.
var allowed = []struct{ capability, permission string }{
	{"CAP_NET_RAW", "raw_sockets"},
	{"CAP_IPC_LOCK", "mlock"},
	{"CAP_LINUX_IMMUTABLE", "chflags"},
	{"CAP_SYSLOG", "read_msgbuf"},
	{"CAP_NET_BIND_SERVICE", "reserved_ports"},
	{"CAP_SYS_ADMIN", "set_hostname"},
	{"CAP_SYS_PTRACE", "unprivileged_proc_debug"},
}

// fixed are capabilities that a jail's root has or hasn't whatever is asked for: a jail has no switch for them.
var fixed = map[string]bool{}

func init() {
	for _, c := range ocispec.AllCaps {
		fixed[c] = !slices.ContainsFunc(allowed, func(a struct{ capability, permission string }) bool { return a.capability == c })
	}
}

// permissions sets all of allow.*, so that no default of the host's shines through. Docker's default capabilities, but for root's power over its
// own files, are the default here too; processes may debug their like, as on Linux.
func permissions(in *Input, b *Bundle) (warnings []string, err error) {
	spec := &in.Jail.Spec
	caps, _, err := ocispec.Caps(spec.Privileged, spec.CapAdd, spec.CapDrop)
	if err != nil {
		return nil, err
	}
	for _, a := range allowed {
		on := slices.Contains(caps, a.capability)
		switch a.permission {
		case "raw_sockets":
			if on && !ownStack(in) && !spec.Privileged && !named(spec.CapAdd, a.capability) {
				on = false // by default not in the host's own network, where they see everybody's packets
			}
		case "unprivileged_proc_debug":
			on = on || !named(spec.CapDrop, a.capability)
		}
		b.allow(a.permission, on)
	}
	b.allow("quotas", false)
	b.allow("socket_af", spec.Privileged)
	b.allow("suser", len(caps) > 0) // with no capability at all root is nobody special
	secure(in, caps, b)
	if lacking := kept(caps, spec.CapAdd); len(lacking) > 0 && !spec.Privileged {
		warnings = append(warnings, "Jails can't give "+strings.Join(lacking, ", ")+": the container runs without")
	}
	if left := kept(ocispec.DefaultCaps, spec.CapDrop); len(left) > 0 && len(caps) > 0 {
		warnings = append(warnings, "Jails can't take "+strings.Join(left, ", ")+" from root alone: the container keeps them")
	}
	return warnings, nil
}

// secure raises the jail's security level (security(7)) as far as its capabilities let it: 3 forbids rules of the firewall in its own network stack,
// and 1 to clear flags of files. None may be below the host's,
// which holds where nothing is said.
func secure(in *Input, caps []string, b *Bundle) {
	switch {
	case slices.Contains(caps, "CAP_LINUX_IMMUTABLE"):
	case !slices.Contains(caps, "CAP_NET_ADMIN"):
		b.number("securelevel", 3)
	case in.Host.SecureLevel == nil || in.Host.SecureLevel() < 2:
		b.number("securelevel", 2)
	}
}

func (b *Bundle) allow(permission string, on bool) {
	if on {
		b.flag("allow." + permission)
	} else {
		b.flag("allow.no" + permission)
	}
}

// named reports whether a list of a --cap flag has the capability.
func named(list []string, capability string) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		s = strings.ToUpper(s)
		return s == "ALL" || s == "CAP_ALL" || "CAP_"+strings.TrimPrefix(s, "CAP_") == capability
	})
}

// kept lists the capabilities that a --cap flag names one by one, that are in have, and that jails have no switch for.
func kept(have, list []string) (out []string) {
	for _, c := range have {
		if fixed[c] && slices.ContainsFunc(list, func(s string) bool {
			return !strings.EqualFold(strings.TrimPrefix(strings.ToUpper(s), "CAP_"), "ALL") && named([]string{s}, c)
		}) {
			out = append(out, c)
		}
	}
	return out
}

// ipc gives the jail its own System V IPC. With the host's, and between the apps of a pod, it is inherited: FreeBSD has no other way to share it.
func ipc(in *Input, b *Bundle) ([]string, error) {
	how := int32(sysNew)
	switch mode := in.Jail.Spec.IpcMode; {
	case mode == "host":
		how = sysInherit
	case mode == "none":
		how = sysDisable
	case in.Jail.Pod != nil: // its parent jail is the pod's
		how = sysInherit
	}
	for _, name := range []string{"sysvmsg", "sysvsem", "sysvshm"} {
		b.number(name, how)
	}
	return nil, nil
}
