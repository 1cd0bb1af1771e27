package dockerapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/logopts"
)

// inspectDocument is moby's inspect document with the fields that API versions before 1.52 have besides.
type inspectDocument struct {
	container.InspectResponse
	Config          *inspectConfig
	HostConfig      *inspectHostConfig
	NetworkSettings *inspectNetworks
}

type inspectConfig struct {
	*container.Config
	MacAddress string   `json:",omitempty"`
	OnBuild    []string // up to 1.51 also where there is none
}

// inspectHostConfig: before 1.42 two limits are always there, which nothing sets any more.
type inspectHostConfig struct {
	*container.HostConfig
	KernelMemory    *int64 `json:",omitempty"`
	KernelMemoryTCP *int64 `json:",omitempty"`
}

// inspectNetworks has at its top what the endpoint on the default bridge has.
type inspectNetworks struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  network.PortMap
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]*network.EndpointSettings
}

func (s *Server) containerInspect(ctx context.Context, r *request) (response, error) {
	c, err := s.Containers.Get(ctx, r.ref())
	if err != nil {
		return nil, err
	}
	doc, err := inspectContainer(c, r.version)
	if err != nil {
		return nil, err
	}
	if doc.HostConfig.Links, err = s.linksOf(ctx, c); err != nil {
		return nil, err
	}
	if r.flag("size") {
		rw, root, err := s.containerSize(ctx, c)
		if err != nil {
			return nil, err
		}
		doc.SizeRw, doc.SizeRootFs = &rw, &root
	}
	return asJSON(http.StatusOK, doc), nil
}

// linksOf are c's legacy links that there are today, with the names that both ends have now.
func (s *Server) linksOf(ctx context.Context, c *brig.Container) (out []string, err error) {
	if len(c.Spec.Links) == 0 {
		return nil, nil
	}
	all, err := s.Containers.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range c.Spec.Links {
		id, alias, _ := strings.Cut(l, ":")
		if i := slices.IndexFunc(all, func(x *brig.Container) bool { return string(x.ID) == id }); i >= 0 {
			out = append(out, "/"+all[i].Name+":/"+c.Name+"/"+alias)
		}
	}
	return out, nil
}

// containerSize returns the bytes of the files that the container has added or changed, and those of its whole root file system.
// It looks at each of them, so clients have to ask for it.
func (s *Server) containerSize(ctx context.Context, c *brig.Container) (rw, root int64, err error) {
	changes, err := s.Terminals.Changes(ctx, string(c.ID))
	if errs.Is(err, errs.NotFound) { // removed since it was listed
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, errs.Wrap(err, "size of container %s", c.ID.Short())
	}
	for _, ch := range changes {
		if ch.Kind == brig.ChangeDeleted {
			continue
		}
		st, err := s.Files.StatPath(ctx, string(c.ID), ch.Path)
		switch {
		case errs.Is(err, errs.NotFound): // it has gone since
		case err != nil:
			return 0, 0, errs.Wrap(err, "size of container %s", c.ID.Short())
		case st.Mode&modeType == 0:
			rw += st.Size
		}
	}
	if img, err := s.Images.ImageGet(ctx, string(c.Image)); err == nil {
		root = img.Size
	}
	return rw, root + rw, nil
}

// modeType are the bits of io/fs.FileMode that are zero for a regular file.
const modeType uint32 = 0x8f280000

// inspectContainer is pure.
func inspectContainer(c *brig.Container, v Version) (*inspectDocument, error) {
	hc, err := hostConfigOf(c)
	if err != nil {
		return nil, err
	}
	args := slices.Concat(c.Spec.Entrypoint, c.Spec.Cmd)
	doc := &inspectDocument{
		InspectResponse: container.InspectResponse{
			ID: string(c.ID), Name: "/" + c.Name, Created: timestamp(c.Created), Image: string(c.Image), State: stateOf(c), Args: []string{},
			RestartCount: c.RestartCount, Driver: c.Driver, Platform: c.Platform.OS,
			ResolvConfPath: c.ResolvConfPath, HostnamePath: c.HostnamePath, HostsPath: c.HostsPath, LogPath: logPath(c),
			GraphDriver: &storage.DriverData{Name: c.Driver, Data: map[string]string{"ID": string(c.RootFS)}},
			Mounts:      mountPoints(c),
		},
		Config:          &inspectConfig{Config: configOf(c), OnBuild: c.Spec.OnBuild},
		HostConfig:      &inspectHostConfig{HostConfig: hc},
		NetworkSettings: networksOf(c, v),
	}
	if len(args) > 0 {
		doc.Path, doc.Args = args[0], args[1:]
	}
	for _, id := range c.ExecIDs {
		doc.ExecIDs = append(doc.ExecIDs, string(id))
	}
	if v < 44 || c.Spec.MacAddress != "" {
		doc.Config.MacAddress = c.Spec.MacAddress
	}
	if v < 42 {
		doc.HostConfig.KernelMemory, doc.HostConfig.KernelMemoryTCP = new(int64), new(int64)
	}
	return doc, nil
}

// timestamp is RFC 3339 in UTC with what nanoseconds there are; the zero time gives 0001-01-01T00:00:00Z, which clients take as "never".
func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func stateOf(c *brig.Container) *container.State {
	return &container.State{
		Status: container.ContainerState(c.State.String()), Running: c.State.Active(), Paused: c.State == brig.Paused,
		Restarting: c.State == brig.Restarting, Dead: c.State == brig.Dead, OOMKilled: c.OOMKilled,
		Pid: c.PID, ExitCode: c.ExitCode, Error: c.Error, StartedAt: timestamp(c.StartedAt), FinishedAt: timestamp(c.FinishedAt),
		Health: healthDocument(c.Health),
	}
}

// healthDocument is nil without a health check.
func healthDocument(h *brig.Health) *container.Health {
	if h == nil {
		return nil
	}
	out := &container.Health{Status: container.HealthStatus(h.Status), FailingStreak: h.FailingStreak, Log: []*container.HealthcheckResult{}}
	for _, r := range h.Log {
		out.Log = append(out.Log, &container.HealthcheckResult{Start: r.Start, End: r.End, ExitCode: r.ExitCode, Output: r.Output})
	}
	return out
}

// configOf is Config as the container has it: request and image merged.
func configOf(c *brig.Container) *container.Config {
	s := &c.Spec
	out := &container.Config{
		Hostname: s.Hostname, Domainname: s.Domainname, User: s.User, Image: c.ImageRef, WorkingDir: s.WorkingDir,
		AttachStdin: s.AttachIn, AttachStdout: s.AttachOut, AttachStderr: s.AttachErr,
		Tty: s.TTY, OpenStdin: s.OpenStdin, StdinOnce: s.StdinOnce, Env: s.Env, Cmd: s.Cmd, Entrypoint: s.Entrypoint,
		NetworkDisabled: s.NetworkDisabled, OnBuild: s.OnBuild, Labels: s.Labels, StopSignal: s.StopSignal, StopTimeout: s.StopTimeout, Shell: s.Shell,
	}
	if out.Hostname == "" && s.UTSMode != "host" {
		out.Hostname = c.ID.Short()
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if out.Env == nil {
		out.Env = []string{}
	}
	for _, p := range s.Exposed {
		if port, ok := mobyPort(p); ok {
			if out.ExposedPorts == nil {
				out.ExposedPorts = network.PortSet{}
			}
			out.ExposedPorts[port] = struct{}{}
		}
	}
	for _, v := range s.Volumes {
		if out.Volumes == nil {
			out.Volumes = map[string]struct{}{}
		}
		out.Volumes[v] = struct{}{}
	}
	if h := s.Health; h != nil {
		out.Healthcheck = &container.HealthConfig{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	return out
}

func mobyPort(p brig.Port) (network.Port, bool) {
	return network.PortFrom(p.Number, network.IPProtocol(p.Proto))
}

// The paths that Docker hides or makes read-only where a request says nothing (moby, daemon/pkg/oci/defaults.go).
var (
	defaultMasked   = []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
	defaultReadonly = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// logPath is the log's where its format is Docker's json-file for all to read: other drivers' is nobody's business, as dockerd has it.
func logPath(c *brig.Container) string {
	if c.Spec.Log.Driver != "" && c.Spec.Log.Driver != logopts.JSONFile {
		return ""
	}
	return c.LogPath
}

// hostConfigOf is the stored document with the defaults that dockerd fills in.
func hostConfigOf(c *brig.Container) (*container.HostConfig, error) {
	h := &container.HostConfig{}
	if c.Pod != "" {
		h = hostConfigFrom(c)
	} else if len(c.HostConfig) > 0 {
		if err := json.Unmarshal(c.HostConfig, h); err != nil {
			return nil, errs.Wrap(err, "read the host config of container %s", c.ID.Short())
		}
	}
	if h.LogConfig.Type == "" {
		h.LogConfig.Type = "json-file"
	}
	if h.LogConfig.Config == nil {
		h.LogConfig.Config = map[string]string{}
	}
	if h.NetworkMode == "" {
		h.NetworkMode = network.NetworkBridge
	}
	h.Links = nil // those of today: see linksOf
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if h.PortBindings == nil {
		h.PortBindings = network.PortMap{}
	}
	if h.IpcMode == "" {
		h.IpcMode = container.IPCModePrivate
	}
	if h.ShmSize == 0 {
		h.ShmSize = 64 << 20
	}
	if h.Memory > 0 && h.MemorySwap == 0 {
		h.MemorySwap = 2 * h.Memory
	}
	if h.OomKillDisable == nil {
		h.OomKillDisable = new(bool)
	}
	if h.Privileged {
		return h, nil
	}
	if h.MaskedPaths == nil {
		h.MaskedPaths = defaultMasked
	}
	if h.ReadonlyPaths == nil {
		h.ReadonlyPaths = defaultReadonly
	}
	return h, nil
}

// ofImage reports whether a volume is there because Config.Volumes has its path, and not by a mount of its own. dockerd shows no mode then.
func ofImage(c *brig.Container, target string) bool {
	return slices.Contains(c.Spec.Volumes, target) && !slices.ContainsFunc(c.Spec.Mounts, func(m brig.Mount) bool { return m.Target == target })
}

// mountPoints leaves tmpfs out where --tmpfs made it: that is in HostConfig.Tmpfs, and dockerd shows only those of --mount here.
func mountPoints(c *brig.Container) []container.MountPoint {
	out := []container.MountPoint{}
	var asked struct{ Tmpfs map[string]string }
	if slices.ContainsFunc(c.Mounts, func(m brig.MountPoint) bool { return m.Type == brig.MountTmpfs }) {
		json.Unmarshal(c.HostConfig, &asked) // it is a document of ours; without one nothing is left out
	}
	for _, m := range c.Mounts {
		if _, flag := asked.Tmpfs[m.Target]; flag && m.Type == brig.MountTmpfs {
			continue
		}
		p := container.MountPoint{
			Type: mount.Type(m.Type), Name: m.Name, Source: m.Source, Destination: m.Target, Driver: m.Driver,
			Mode: m.Mode, RW: m.RW, Propagation: mount.Propagation(m.Propagation),
		}
		switch m.Type {
		case brig.MountVolume:
			p.Propagation = ""
			if p.Driver == "" {
				p.Driver = "local"
			}
			if p.Mode == "" && !ofImage(c, m.Target) {
				p.Mode = "z"
			}
		case brig.MountBind:
			if p.Propagation == "" {
				p.Propagation = mount.PropagationRPrivate
			}
		}
		out = append(out, p)
	}
	return out
}
