package ocispec

import (
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func namespaces(in *Input, s *specs.Spec) ([]string, error) {
	spec := &in.Jail.Spec
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(t specs.LinuxNamespaceType, path string) {
		ns = append(ns, specs.LinuxNamespace{Type: t, Path: path})
	}
	ipc, uts := nsPath(in.IPCOf, "ipc"), ""
	if p := in.Jail.Pod; p != nil {
		ipc, uts = p.IPC, p.UTS
	}
	if spec.UTSMode != "host" {
		add(specs.UTSNamespace, uts)
	}
	if spec.PidMode != "host" {
		add(specs.PIDNamespace, nsPath(in.PIDOf, "pid"))
	}
	if spec.IpcMode != "host" {
		add(specs.IPCNamespace, ipc)
	}
	switch in.Jail.Netns.Kind {
	case brig.NetnsPrivate:
		add(specs.NetworkNamespace, "")
	case brig.NetnsPath:
		add(specs.NetworkNamespace, in.Jail.Netns.Path)
	}
	// As dockerd: private by default on v2, where the namespace is what hides the host's tree, the host's on v1.
	if spec.CgroupnsMode == "private" || spec.CgroupnsMode == "" && in.Host.CgroupV2 && !spec.Privileged {
		add(specs.CgroupNamespace, "")
	}
	s.Linux.Namespaces = ns
	return nil, nil
}

func nsPath(pid int, kind string) string {
	if pid == 0 {
		return ""
	}
	return "/proc/" + strconv.Itoa(pid) + "/ns/" + kind
}

// hasNamespace reports whether the container gets a namespace of its own or of another container's.
func hasNamespace(s *specs.Spec, t specs.LinuxNamespaceType) bool {
	for _, n := range s.Linux.Namespaces {
		if n.Type == t {
			return true
		}
	}
	return false
}

func isMode(mode, name string) bool { return mode == name || strings.HasPrefix(mode, name+":") }
