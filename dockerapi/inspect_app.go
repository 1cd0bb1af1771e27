package dockerapi

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/brigd/brig/internal/brig"
)

// hostConfigFrom makes, for a container that no Docker request asked for, the host config that would ask for the like of it: it is an app of a pod.
func hostConfigFrom(c *brig.Container) *container.HostConfig {
	s := &c.Spec
	h := &container.HostConfig{
		NetworkMode: container.NetworkMode(s.NetworkMode), ReadonlyRootfs: s.ReadOnly, ShmSize: s.ShmSize, CapAdd: s.CapAdd, CapDrop: s.CapDrop,
		GroupAdd: s.GroupAdd, Sysctls: maps.Clone(s.Sysctls), OomScoreAdj: s.OomScoreAdj, ExtraHosts: s.ExtraHosts, DNSSearch: s.DNS.Search, DNSOptions: s.DNS.Options,
		LogConfig:     container.LogConfig{Type: s.Log.Driver, Config: maps.Clone(s.Log.Options)},
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyMode(s.Restart.Name), MaximumRetryCount: s.Restart.MaxRetries},
	}
	for _, a := range s.DNS.Servers {
		if ip, err := netip.ParseAddr(a); err == nil {
			h.DNS = append(h.DNS, ip)
		}
	}
	if s.NoNewPrivileges {
		h.SecurityOpt = append(h.SecurityOpt, "no-new-privileges")
	}
	r := &h.Resources
	r.Memory, r.MemoryReservation, r.MemorySwap = s.Limits.Memory, s.Limits.MemoryReservation, s.Limits.MemorySwap
	r.NanoCPUs, r.CPUShares, r.CPUPeriod, r.CPUQuota = s.Limits.NanoCPUs, s.Limits.CPUShares, s.Limits.CPUPeriod, s.Limits.CPUQuota
	if n := s.Limits.Pids; n > 0 {
		r.PidsLimit = &n
	}
	for _, m := range c.Mounts {
		source := m.Source
		if m.Type == brig.MountVolume {
			source = m.Name
		}
		bind := source + ":" + m.Target
		if !m.RW {
			bind += ":ro"
		}
		if m.Type != brig.MountTmpfs {
			h.Binds = append(h.Binds, bind)
		}
	}
	h.PortBindings = network.PortMap{}
	names := slices.Sorted(maps.Keys(c.Endpoints))
	for _, name := range names {
		for _, b := range c.Endpoints[name].Ports {
			if p, err := network.ParsePort(strings.ToLower(b.String())); err == nil {
				ip := hostIP(b.HostIP)
				h.PortBindings[p] = append(h.PortBindings[p], network.PortBinding{HostIP: ip, HostPort: strconv.Itoa(int(b.HostPort))})
			}
		}
	}
	return h
}
