package dockerapi

import (
	"context"
	"net/http"
	"net/netip"
	goruntime "runtime"
	"strings"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/logopts"
)

// indexServer is what Docker calls Docker Hub in credentials.
const indexServer = "https://index.docker.io/v1/"

func (s *Server) versionInfo(ctx context.Context, _ *request) (response, error) {
	i, err := s.System.Info(ctx)
	if err != nil {
		return nil, err
	}
	v := system.VersionResponse{
		Platform: system.PlatformInfo{Name: "brig"}, Version: i.ServerVersion,
		APIVersion: MaxVersion.String(), MinAPIVersion: MinVersion.String(),
		Os: s.ostype, Arch: goruntime.GOARCH, GoVersion: goruntime.Version(),
		KernelVersion: i.KernelVersion, BuildTime: i.BuildTime, GitCommit: i.GitCommit,
	}
	v.Components = []system.ComponentVersion{{
		Name: "Engine", Version: i.ServerVersion,
		Details: map[string]string{
			"ApiVersion": v.APIVersion, "MinAPIVersion": v.MinAPIVersion, "Os": v.Os, "Arch": v.Arch, "GoVersion": v.GoVersion,
			"KernelVersion": v.KernelVersion, "BuildTime": v.BuildTime, "GitCommit": v.GitCommit, "Experimental": "false",
		},
	}}
	if i.DefaultRuntime != "" {
		v.Components = append(v.Components, system.ComponentVersion{
			Name: i.DefaultRuntime, Version: i.RuntimeVersion, Details: map[string]string{"GitCommit": ""},
		})
	}
	return asJSON(http.StatusOK, v), nil
}

// legacyCommit is how versions before 1.49 had a component's commit.
type legacyCommit struct{ ID, Expected string }

// infoDocument adds to moby's Info what it has dropped and older clients read. Fields here win over those in Info.
type infoDocument struct {
	system.Info
	RegistryConfig                any
	ContainerdCommit, RuncCommit  any
	InitCommit                    any
	KernelMemory, KernelMemoryTCP *bool  `json:",omitempty"`                  // before 1.42
	BridgeNfIptables              *bool  `json:",omitempty"`                  // before 1.50
	BridgeNfIP6tables             *bool  `json:"BridgeNfIp6tables,omitempty"` // likewise
	ExecutionDriver               string `json:",omitempty"`                  // before 1.25
	SecurityOptions               []string
}

func (s *Server) info(ctx context.Context, r *request) (response, error) {
	i, err := s.System.Info(ctx)
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, infoFor(r.version, newInfo(i, time.Now()))), nil
}

// infoFor is the version shim of /info (moby's API version history, v1.42 to v1.50).
func infoFor(v Version, i system.Info) infoDocument {
	d := infoDocument{Info: i, RegistryConfig: i.RegistryConfig,
		ContainerdCommit: i.ContainerdCommit, RuncCommit: i.RuncCommit, InitCommit: i.InitCommit, SecurityOptions: i.SecurityOptions}
	no := false
	if v < 25 {
		d.ExecutionDriver, d.SecurityOptions = "<not supported>", []string{}
		for _, o := range i.SecurityOptions { // "seccomp" for "name=seccomp,profile=default"
			name, _, _ := strings.Cut(strings.TrimPrefix(o, "name="), ",")
			d.SecurityOptions = append(d.SecurityOptions, name)
		}
	}
	if v < 42 {
		d.KernelMemory, d.KernelMemoryTCP = &no, &no
	}
	if v < 50 {
		d.BridgeNfIptables, d.BridgeNfIP6tables = &no, &no
	}
	if v < 49 {
		d.ContainerdCommit = legacyCommit{i.ContainerdCommit.ID, i.ContainerdCommit.ID}
		d.RuncCommit = legacyCommit{i.RuncCommit.ID, i.RuncCommit.ID}
		d.InitCommit = legacyCommit{i.InitCommit.ID, i.InitCommit.ID}
		d.RegistryConfig = struct {
			AllowNondistributableArtifactsCIDRs, AllowNondistributableArtifactsHostnames []string
			*registry.ServiceConfig
		}{ServiceConfig: i.RegistryConfig}
	}
	return d
}

func newInfo(i SystemInfo, now time.Time) system.Info {
	return system.Info{
		ID: i.ID, Name: i.Name, ServerVersion: i.ServerVersion, DockerRootDir: i.Root,
		Containers: i.Containers, ContainersRunning: i.Running, ContainersPaused: i.Paused, ContainersStopped: i.Stopped, Images: i.Images,
		Driver: i.Driver, DriverStatus: i.DriverStatus,
		Plugins: system.PluginsInfo{
			Volume: []string{"local"}, Network: []string{"bridge", "host", "null"}, Log: logopts.Drivers(),
		},
		MemoryLimit: i.MemoryLimit, SwapLimit: i.SwapLimit, CPUCfsPeriod: i.CPUCfsPeriod, CPUCfsQuota: i.CPUCfsQuota,
		CPUShares: i.CPUShares, CPUSet: i.CPUSet, PidsLimit: i.PidsLimit, OomKillDisable: i.OomKillDisable,
		IPv4Forwarding: i.IPv4Forwarding, Debug: i.Debug, NFd: i.NFd, NGoroutines: i.NGoroutines,
		SystemTime: now.Format(time.RFC3339Nano), LoggingDriver: logopts.Merge(brig.LogConfig{}, brig.LogConfig{Driver: i.LogDriver}).Driver,
		CgroupDriver: i.CgroupDriver, CgroupVersion: i.CgroupVersion,
		KernelVersion: i.KernelVersion, OperatingSystem: i.OperatingSystem, OSVersion: i.OSVersion,
		OSType: i.OSType, Architecture: i.Architecture, NCPU: i.NCPU, MemTotal: i.MemTotal,
		IndexServerAddress: indexServer, RegistryConfig: registryConfig(i.InsecureRegistries),
		Labels: []string{}, Runtimes: runtimes(i.Runtimes), DefaultRuntime: i.DefaultRuntime,
		Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive}, LiveRestoreEnabled: true, // containers outlive brigd
		RuncCommit:      system.Commit{ID: i.RuntimeVersion},
		SecurityOptions: nonNil(i.SecurityOptions), CDISpecDirs: []string{}, Warnings: nonNil(i.Warnings),
	}
}

func runtimes(paths map[string]string) map[string]system.RuntimeWithStatus {
	m := make(map[string]system.RuntimeWithStatus, len(paths))
	for name, path := range paths {
		m[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: path}}
	}
	return m
}

// registryConfig lists the registries that may be spoken to without TLS: networks, and hosts by name.
func registryConfig(insecure []string) *registry.ServiceConfig {
	c := &registry.ServiceConfig{
		InsecureRegistryCIDRs: []netip.Prefix{}, Mirrors: []string{},
		IndexConfigs: map[string]*registry.IndexInfo{"docker.io": {Name: "docker.io", Mirrors: []string{}, Secure: true, Official: true}},
	}
	for _, r := range insecure {
		if p, err := netip.ParsePrefix(r); err == nil {
			c.InsecureRegistryCIDRs = append(c.InsecureRegistryCIDRs, p)
			continue
		}
		c.IndexConfigs[r] = &registry.IndexInfo{Name: r, Mirrors: []string{}}
	}
	return c
}

// nonNil makes JSON's null an empty list.
func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
