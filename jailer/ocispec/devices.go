package ocispec

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func devices(in *Input, s *specs.Spec) ([]string, error) {
	spec := &in.Jail.Spec
	if spec.Privileged {
		all, err := in.Host.Devices()
		if err != nil {
			return nil, errs.Wrap(err, "list the host's devices")
		}
		s.Linux.Devices = all
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	} else {
		s.Linux.Resources.Devices = defaultDeviceRules()
	}
	for _, d := range spec.Devices {
		if err := addDevice(in.Host, s, d, spec.Privileged); err != nil {
			return nil, err
		}
	}
	for _, r := range spec.DeviceRules {
		rule, err := ParseDeviceRule(r)
		if err != nil {
			return nil, err
		}
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, rule)
	}
	if !slices.Contains(in.Host.Controllers, "devices") {
		s.Linux.Resources.Devices = nil
		return []string{"This host has no devices cgroup controller: access to devices is not restricted by it"}, nil
	}
	return nil, nil
}

// defaultDeviceRules let a container make any node, but open only the harmless ones: mem(4)'s, the terminals, and /dev/net/tun not.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	n := func(v int64) *int64 { return &v }
	rules := []specs.LinuxDeviceCgroup{
		{Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "b", Access: "m"},
	}
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: n(d[0]), Minor: n(d[1]), Access: "rwm"})
	}
	return append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: n(136), Access: "rwm"})
}

// addDevice adds one --device: a node, or a directory of nodes.
func addDevice(h *Host, s *specs.Spec, d brig.Device, privileged bool) error {
	if d.Container == "" {
		d.Container = d.Host
	}
	if d.Permissions == "" {
		d.Permissions = "rwm"
	}
	if strings.Trim(d.Permissions, "rwm") != "" {
		return errs.New(errs.Invalid, "invalid device permissions %q for %s", d.Permissions, d.Host)
	}
	nodes, err := h.InDir(d.Host)
	if err != nil {
		return errs.New(errs.Invalid, "error gathering device information while adding custom device %q: %w", d.Host, err)
	}
	if nodes == nil {
		nodes = []string{d.Host}
	}
	for _, node := range nodes {
		dev, err := h.Device(node)
		if err != nil {
			return errs.New(errs.Invalid, "error gathering device information while adding custom device %q: %w", d.Host, err)
		}
		dev.Path = path.Join(d.Container, strings.TrimPrefix(node, d.Host))
		s.Linux.Devices = slices.DeleteFunc(s.Linux.Devices, func(o specs.LinuxDevice) bool { return o.Path == dev.Path })
		s.Linux.Devices = append(s.Linux.Devices, dev)
		if !privileged {
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices,
				specs.LinuxDeviceCgroup{Allow: true, Type: dev.Type, Major: &dev.Major, Minor: &dev.Minor, Access: d.Permissions})
		}
	}
	return nil
}

var deviceRuleRE = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// ParseDeviceRule reads a devices cgroup rule, "c 1:3 rwm"; * stands for all numbers.
func ParseDeviceRule(rule string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRuleRE.FindStringSubmatch(rule)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, errs.New(errs.Invalid, "invalid device cgroup rule format: '%s'", rule)
	}
	out := specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Access: m[4]}
	for i, to := range []**int64{&out.Major, &out.Minor} {
		if m[2+i] == "*" {
			continue
		}
		n, err := strconv.ParseInt(m[2+i], 10, 64)
		if err != nil {
			return out, errs.New(errs.Invalid, "invalid device cgroup rule '%s': %w", rule, err)
		}
		*to = &n
	}
	return out, nil
}
