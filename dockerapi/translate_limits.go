package dockerapi

import (
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/sys/capability"

	"github.com/brigd/brig/internal/brig"
)

// minMemory is the least memory limit that Docker accepts, in bytes.
const minMemory = 6 << 20

func (t *translation) memory() error {
	h, l := t.h, &t.spec.Limits
	if v := h.MemorySwappiness; v != nil && *v == -1 {
		h.MemorySwappiness = nil // old clients say "unset" so
	}
	switch {
	case h.Memory < 0 || h.Memory != 0 && h.Memory < minMemory:
		return invalid("Minimum memory limit allowed is 6MB")
	case h.Memory > 0 && h.MemorySwap > 0 && h.MemorySwap < h.Memory:
		return invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case h.Memory == 0 && h.MemorySwap > 0:
		return invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case h.MemorySwap < -1:
		return invalid("Invalid value: %d, memory-swap must be -1 or a size", h.MemorySwap)
	case h.MemorySwappiness != nil && (*h.MemorySwappiness < 0 || *h.MemorySwappiness > 100):
		return invalid("Invalid value: %v, valid memory swappiness range is 0-100", *h.MemorySwappiness)
	case h.MemoryReservation < 0 || h.MemoryReservation > 0 && h.MemoryReservation < minMemory:
		return invalid("Minimum memory reservation allowed is 6MB")
	case h.Memory > 0 && h.MemoryReservation > 0 && h.Memory < h.MemoryReservation:
		return invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	if h.OomKillDisable != nil && *h.OomKillDisable {
		l.OomKillDisable = true
		if h.Memory == 0 {
			t.warn("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
		}
	}
	if h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000 {
		return invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", h.OomScoreAdj)
	}
	l.Memory, l.MemorySwap, l.MemoryReservation, l.MemorySwappiness = h.Memory, h.MemorySwap, h.MemoryReservation, h.MemorySwappiness
	t.spec.OomScoreAdj = h.OomScoreAdj
	return nil
}

func (t *translation) cpu() error {
	h, l := t.h, &t.spec.Limits
	switch {
	case h.NanoCPUs > 0 && h.CPUPeriod > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case h.NanoCPUs > 0 && h.CPUQuota > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case h.NanoCPUs < 0 || h.NanoCPUs > int64(t.host.NCPU)*1e9:
		return invalid("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", t.host.NCPU)
	case h.CPUPeriod != 0 && (h.CPUPeriod < 1000 || h.CPUPeriod > 1000000):
		return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case h.CPUQuota > 0 && h.CPUQuota < 1000:
		return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case h.CPUShares < 0:
		return invalid("invalid CPU shares (%d): value must be a positive integer", h.CPUShares)
	case h.CPURealtimePeriod != 0 && h.CPURealtimeRuntime > h.CPURealtimePeriod:
		return invalid("cpu real-time runtime cannot be higher than cpu real-time period")
	}
	cpus, err := parseSet(h.CpusetCpus)
	if err != nil {
		return invalid("Invalid value %s for cpuset cpus: %w", h.CpusetCpus, err)
	}
	if slices.ContainsFunc(cpus, func(r [2]int) bool { return r[1] >= t.host.NCPU }) {
		return invalid("Requested CPUs are not available - requested %s, available: 0-%d", h.CpusetCpus, t.host.NCPU-1)
	}
	if _, err := parseSet(h.CpusetMems); err != nil {
		return invalid("Invalid value %s for cpuset mems: %w", h.CpusetMems, err)
	}
	l.NanoCPUs, l.CPUShares, l.CPUPeriod, l.CPUQuota = h.NanoCPUs, h.CPUShares, h.CPUPeriod, h.CPUQuota
	l.CPURealtimePeriod, l.CPURealtimeRuntime = h.CPURealtimePeriod, h.CPURealtimeRuntime
	l.CpusetCPUs, l.CpusetMems = h.CpusetCpus, h.CpusetMems
	return nil
}

// parseSet reads the list format of cpuset(7), "0-2,5", as ranges of first and last.
func parseSet(s string) ([][2]int, error) {
	if s == "" {
		return nil, nil
	}
	var out [][2]int
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return nil, invalid("invalid format: %s", s)
		}
		b, err := strconv.ParseUint(last, 10, 16)
		if err != nil || b < a {
			return nil, invalid("invalid format: %s", s)
		}
		out = append(out, [2]int{int(a), int(b)})
	}
	return out, nil
}

func (t *translation) blockIO() error {
	h, l := t.h, &t.spec.Limits
	if h.BlkioWeight > 0 && (h.BlkioWeight < 10 || h.BlkioWeight > 1000) {
		return invalid("Range of blkio weight is from 10 to 1000")
	}
	if len(h.BlkioWeightDevice) > 0 {
		return notYet("block I/O weights per device (blkio-weight-device) are not supported by brig")
	}
	l.BlkioWeight = h.BlkioWeight
	for _, kind := range []struct {
		what string
		list []*blkiodev.ThrottleDevice
	}{{"read_bps", h.BlkioDeviceReadBps}, {"write_bps", h.BlkioDeviceWriteBps}, {"read_iops", h.BlkioDeviceReadIOps}, {"write_iops", h.BlkioDeviceWriteIOps}} {
		for _, d := range kind.list {
			if d == nil || !path.IsAbs(d.Path) {
				return invalid("bad format for device path: %v", d)
			}
			l.BlkioThrottle = append(l.BlkioThrottle, brig.ThrottleDevice{What: kind.what, Path: d.Path, Rate: d.Rate})
		}
	}
	return nil
}

// processLimits is pids and ulimits.
func (t *translation) processLimits() error {
	if p := t.h.PidsLimit; p != nil && *p > 0 {
		t.spec.Limits.Pids = *p
	} else {
		t.h.PidsLimit = nil
	}
	for _, u := range t.h.Ulimits {
		if u == nil {
			return invalid("invalid ulimit: null")
		}
		if _, err := u.GetRlimit(); err != nil {
			return invalid("invalid ulimit type: %s", u.Name)
		}
		if u.Hard != -1 && (u.Soft > u.Hard || u.Soft == -1) {
			return invalid("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
		t.spec.Ulimits = append(t.spec.Ulimits, brig.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return nil
}

// deviceRule is a line of the kernel's devices cgroup (cgroup-v1/devices.rst) as Docker takes it.
var deviceRule = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

func (t *translation) devices() error {
	for _, d := range t.h.Devices {
		if !path.IsAbs(d.PathOnHost) {
			return invalid("error gathering device information while adding custom device %q: not an absolute path", d.PathOnHost)
		}
		inside, mode := d.PathInContainer, d.CgroupPermissions
		if inside == "" {
			inside = d.PathOnHost
		}
		if mode == "" {
			mode = "rwm"
		}
		if !path.IsAbs(inside) {
			return invalid("invalid device path in the container: %s", inside)
		}
		if strings.Trim(mode, "rwm") != "" || len(mode) > 3 {
			return invalid("invalid device mode: %s", mode)
		}
		t.spec.Devices = append(t.spec.Devices, brig.Device{Host: d.PathOnHost, Container: path.Clean(inside), Permissions: mode})
	}
	for _, rule := range t.h.DeviceCgroupRules {
		if !deviceRule.MatchString(rule) {
			return invalid("invalid device cgroup rule format: '%s'", rule)
		}
	}
	t.spec.DeviceRules = t.h.DeviceCgroupRules
	for _, r := range t.h.DeviceRequests {
		return invalid("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
	}
	return nil
}

// storage: size is the one option of Docker's storage drivers that brig's have.
func (t *translation) storage() error {
	for _, key := range slices.Sorted(maps.Keys(t.h.StorageOpt)) {
		if key != "size" {
			return invalid("unknown storage option: %s", key)
		}
		if n, err := units.RAMInBytes(t.h.StorageOpt[key]); err != nil || n < 0 {
			return invalid("invalid size: '%s'", t.h.StorageOpt[key])
		}
	}
	t.spec.StorageOpt = t.h.StorageOpt
	return nil
}

func (t *translation) capabilities() error {
	if err := checkCaps(t.h.CapAdd); err != nil {
		return invalid("invalid CapAdd: %w", err)
	}
	if err := checkCaps(t.h.CapDrop); err != nil {
		return invalid("invalid CapDrop: %w", err)
	}
	t.spec.CapAdd, t.spec.CapDrop = t.h.CapAdd, t.h.CapDrop
	t.spec.Privileged, t.spec.ReadOnly, t.spec.GroupAdd = t.h.Privileged, t.h.ReadonlyRootfs, t.h.GroupAdd
	return nil
}

func checkCaps(names []string) error {
	known := map[string]bool{"ALL": true}
	for _, c := range capability.ListKnown() {
		known[strings.ToUpper(c.String())] = true
	}
	for _, name := range names {
		bare := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if !known[bare] {
			return invalid("unknown capability: %q", "CAP_"+bare)
		}
	}
	return nil
}

// security reads --security-opt, KEY=VALUE or the old KEY:VALUE, and the masked paths.
func (t *translation) security() error {
	for _, opt := range t.h.SecurityOpt {
		if err := t.securityOpt(opt); err != nil {
			return err
		}
	}
	t.spec.MaskedPaths, t.spec.ReadonlyPaths = t.h.MaskedPaths, t.h.ReadonlyPaths
	return nil
}

func (t *translation) securityOpt(opt string) error {
	switch opt {
	case "no-new-privileges":
		t.spec.NoNewPrivileges = true
		return nil
	case "writable-cgroups":
		return notYet("security option writable-cgroups is not supported by brig")
	case "disable":
		return nil // of SELinux labels, which brig has none of
	}
	key, value, ok := strings.Cut(opt, "=")
	if !ok {
		key, value, ok = strings.Cut(opt, ":")
	}
	if !ok {
		return invalid("invalid --security-opt 1: %q", opt)
	}
	switch key {
	case "no-new-privileges", "writable-cgroups":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return invalid("invalid --security-opt 2: %q", opt)
		}
		if key == "writable-cgroups" && on {
			return notYet("security option writable-cgroups is not supported by brig")
		}
		t.spec.NoNewPrivileges = t.spec.NoNewPrivileges && key != "no-new-privileges" || on
	case "seccomp":
		return t.seccomp(value)
	case "apparmor":
		if value != "unconfined" {
			return notYet("AppArmor profiles are not supported by brig: %s", opt)
		}
	case "label":
		if value != "disable" {
			t.warn("SELinux labels are not supported by brig. Security option %q discarded.", opt)
		}
	default:
		return invalid("invalid --security-opt 2: %q", opt)
	}
	return nil
}

// seccomp takes the profile itself: clients read the file.
func (t *translation) seccomp(value string) error {
	switch {
	case value == "unconfined":
		t.spec.Seccomp = value
	case value == "" || value == "builtin" || value == "default":
		t.spec.Seccomp = ""
	case !json.Valid([]byte(value)):
		return invalid("Decoding seccomp profile failed: it is not JSON")
	default:
		t.spec.Seccomp = value
	}
	return nil
}
