package ocispec

import (
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

// sysctls sets those that belong to the container's own namespaces; others would change the host and are refused.
func sysctls(in *Input, s *specs.Spec) ([]string, error) {
	spec := &in.Jail.Spec
	out := map[string]string{}
	if in.Jail.Netns.Kind != brig.NetnsHost && !isMode(spec.NetworkMode, "container") {
		// As dockerd: in a network of its own a container needs no privilege for low ports and ping.
		out["net.ipv4.ip_unprivileged_port_start"] = "0"
		out["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	if spec.Domainname != "" && hasNamespace(s, specs.UTSNamespace) {
		out["kernel.domainname"] = spec.Domainname
	}
	for key, value := range spec.Sysctls {
		switch {
		case slices.Contains(ipcSysctls, key) || strings.HasPrefix(key, "fs.mqueue."):
			if !hasNamespace(s, specs.IPCNamespace) {
				return nil, errs.New(errs.Invalid, "sysctl %q is not allowed in the hosts ipc namespace", key)
			}
		case strings.HasPrefix(key, "net."):
			if in.Jail.Netns.Kind == brig.NetnsHost {
				return nil, errs.New(errs.Invalid, "sysctl %q not allowed in host network namespace", key)
			}
		case key == "kernel.domainname":
		default:
			return nil, errs.New(errs.Invalid, "sysctl %q is not in a separate kernel namespace", key)
		}
		out[key] = value
	}
	s.Linux.Sysctl = out
	return nil, nil
}
