package integration

import (
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// Reasons that many share.
const (
	noNamespaces = "jails have no namespaces under /proc/self/ns to compare"
	noCgroups    = "limits are rules of rctl, and no files below /sys/fs/cgroup; TestLimitsByRctl has them"
	noSeccomp    = "FreeBSD has no seccomp, which is warned of: TestWhatJailsLack"
	noSharing    = "jails can't share it, which is refused: TestWhatJailsLack"
	noSysctls    = "sysctls of jails are refused: TestWhatJailsLack"
	noDevices    = "devices are given by brig's devfs ruleset alone, others are refused: TestWhatJailsLack"
	noDeviceFlag = "the docker command refuses --device of a server whose system is neither Linux nor Windows"
	noMasks      = "linprocfs and linsysfs show little that is worth hiding; masked and read-only paths are discarded"
	noPids       = "jails see their own processes under the host's numbers, and none of them is number 1"
	newGroup     = "a new file has its directory's group, whoever makes it"
	hostsOwn     = "what stands on no image is for the host's system: TestBuildScratchIsTheHosts"
	noCaps       = "capabilities become permissions of the jail, and linprocfs shows none: TestContainerIsAJail"
)

// hostDiffers names what the suite asks of Linux's namespaces, cgroups and /proc that FreeBSD's jails don't have, or have in another way, and why.
// docs/freebsd.md has the limits; jails_freebsd_test.go has what takes their place.
var hostDiffers = map[string]string{
	"run ns":                            noNamespaces,
	"run network host":                  noNamespaces,
	"run pid host":                      noSharing,
	"run pid container":                 noSharing,
	"run ipc host":                      noNamespaces,
	"run ipc container":                 noSharing,
	"run uts host":                      noNamespaces,
	"run userns host":                   noNamespaces,
	"run cgroupns host":                 noNamespaces,
	"run cgroupns private":              noNamespaces,
	"run network container":             noNamespaces,
	"run memory":                        noCgroups,
	"run cpus":                          noCgroups,
	"run pids-limit":                    noCgroups,
	"run default capabilities":          noCaps,
	"run cap-drop":                      noCaps,
	"run cap-drop and add":              noCaps,
	"run no capabilities as user":       noCaps,
	"run cap-add all but":               noCaps,
	"run cap bounding as user":          noCaps,
	"run seccomp":                       noSeccomp,
	"run unconfined":                    noSeccomp,
	"run seccomp file":                  noSeccomp,
	"run sysctl":                        noSysctls,
	"run sysctl unknown":                noSysctls,
	"run sysctl net with net host":      noSysctls,
	"run sysctl ipc with ipc host":      noSysctls,
	"run domainname":                    "linprocfs has no file for it",
	"run device relative":               noDeviceFlag,
	"run device mode":                   noDeviceFlag,
	"run device a file":                 noDeviceFlag,
	"run device missing":                noDeviceFlag,
	"run device":                        noDevices,
	"run device ro":                     noDevices,
	"run device without":                noDevices,
	"run device-cgroup-rule":            noDevices,
	"run device directory":              noDevices,
	"run device readable":               noDevices,
	"run masked":                        noMasks,
	"run read-only proc":                noMasks,
	"run read-only sys":                 noMasks,
	"run systempaths":                   noMasks,
	"run devices":                       "the devices are those of brig's devfs ruleset; a terminal's are there with -t alone",
	"run pid namespace":                 noPids,
	"run init":                          noPids,
	"run no-new-privileges":             "set by procctl(2), and linprocfs doesn't show it",
	"run no-new-privileges false":       "as no-new-privileges",
	"run seccomp forbids":               noSeccomp,
	"run privileged":                    "a privileged jail may neither mount nor use the host's devices, which is warned of: TestWhatJailsLack",
	"limit cpuset":                      "linprocfs doesn't show it; TestLimitsByRctl does",
	"limit device rule":                 noDevices,
	"pod queues":                        "syslogd, whose buffer has System V keys, can't make its socket in a jail's /dev, and there is no /dev/mqueue",
	"oom":                               "rctl kills with a signal, and counts nothing: the exit code alone tells",
	"limit oom-score-adj":               "FreeBSD has no OOM score, which is warned of: TestWhatJailsLack",
	"weight":                            "disks are not shared by weight, and it is warned of in other words",
	"cgroup parent":                     "there are no cgroups",
	"exec privileged":                   "a jail's permissions can't be given to one process",
	"file mounts":                       "13.2's kernel may panic when something is mounted on a file, which is refused there",
	"tmpfs memory":                      "rctl counts the memory of processes, not that of a tmpfs's files",
	"throttled":                         "rctl doesn't count the periods in which it held a jail back",
	"healing":                           "brigd asks ifconfig and pfctl every ten seconds whether all is there",
	"interface names":                   "the Linux ABI numbers the interfaces that are there (compat.linux.use_real_ifnames=0): eth1 alone is eth0 to a program",
	"docker2aci":                        "docker2aci needs cgo on FreeBSD",
	"build run/limits":                  noCgroups,
	"build run/etc-files":               "linprocfs has no /proc/self/comm",
	"build run/modes":                   "a jail's root can't make devices",
	"build run/user":                    newGroup,
	"build from/arg-before":             newGroup,
	"build run/changes":                 "to the copy driver a new name of an image's file is a file of its own",
	"build from/stage-by-number":        hostsOwn,
	"build from/scratch":                hostsOwn,
	"build buildkit/platform-args":      hostsOwn,
	"build buildkit/mount-onto-scratch": hostsOwn,
	"build copy/same-again":             "to the copy driver a file that is copied again, as it was, has not changed",
	"build copy/capability":             "the docker command sends no capabilities of files from FreeBSD",
	"skopeo":                            "skopeo is neither in the base system nor built without cgo: what is pushed is pulled back, and nobody else reads it",
}

// A machine may lack the packages that builds of Git repositories need.
func init() {
	if _, err := exec.LookPath("git"); err != nil {
		const reason = "git is a package, and this machine has none"
		hostDiffers["git"] = reason
		hostAnswers = append(hostAnswers, struct{ request, why string }{`^POST (/v1\.\d+)?/build\?remote=.*x\.git`, reason})
	}
}

// nsOf is for cases that this host leaves out.
func nsOf(*testing.T, string) string { return "" }

// resolverOf is where containers of a network ask for names: its gateway, since no container has a resolver of its own.
func resolverOf(t testing.TB, network string) string {
	t.Helper()
	return inspect(t, network, "{{(index .IPAM.Config 0).Gateway}}")
}

// loopback makes an address of 127.0.0.0/8 one of this host's until the test's end.
func loopback(t testing.TB, address string) {
	t.Helper()
	if out, err := exec.Command("ifconfig", "lo0", "alias", address+"/32").CombinedOutput(); err != nil {
		t.Fatalf("ifconfig lo0 alias %s: %v: %s", address, err, out)
	}
	t.Cleanup(func() { exec.Command("ifconfig", "lo0", "-alias", address).Run() })
}

// thisHost is how `brig check` names it.
func thisHost(t *testing.T) string {
	t.Helper()
	release, _, _ := strings.Cut(onHost(t, "uname", "-r"), "-")
	return "freebsd/" + release + "/" + runtime.GOARCH
}

// limitsHeld are the memory in bytes and the processes, or max, that the kernel holds a container to, one a line: rctl(8)'s rules of its jail.
func limitsHeld(t *testing.T, id string) string {
	t.Helper()
	rules := onHost(t, "rctl", "jail:"+jailOf(t, bed.server, id))
	held := func(what string) string {
		if m := regexp.MustCompile(":" + what + `:\w+=(\d+)`).FindStringSubmatch(rules); m != nil {
			return m[1]
		}
		return "max"
	}
	return held("memoryuse") + "\n" + held("maxproc")
}

// hostLines are lines of answers in which FreeBSD and Linux differ wherever they occur, and why.
var hostLines = []struct{ line, why string }{
	{`^Ostype: |^ +"OSType": `, "the host's system"},
	{`^X-Docker-Container-Path-Stat: .*"mode":(2147484141|1342182\d\d),`, "sizes of directories and modes of symbolic links are the file system's"},
	{`^2 7\d\d `, "modes of symbolic links are the file system's"},
	{`^[02] 755 0:0 0 etc/(hostname|hosts|resolv\.conf) `, "on 13.2 they are links, since nothing can be mounted on files"},
	{`chdir to cwd "/no/such"|chdir .*/no/such`, "crun's words and brig-jail's"},
	{`"FreeBSD limits the rate of all disks together`, "what jails can't do is warned of"},
	{`^ +"CgroupnsMode": `, "there are no cgroups"},
	{`^ +"Runtime": `, "brig-jail and crun"},
	{`^ +"Warnings": \[?|^ +"(Jails can't|FreeBSD has no|A privileged jail|Paths that are masked).*"|^ +\],?$`, "what jails can't do is warned of"},
}

// hostAnswers are requests that FreeBSD answers otherwise, and why.
var hostAnswers = []struct{ request, why string }{
	{`"Isolation":"hyperv"`, "the words name the system"},
	{`/top\?ps_args=nosuch`, "ps is the host's, and so are its words"},
	{`^GET (/v1\.\d+)?/(version|info)`, "lists what the host has"},
}

// hostWords are words of this host that stand for those recorded, and why.
var hostWords = []struct{ request, own, recorded, why string }{
	{`^kill -s USR1 `, `"signal":"30"`, `"signal":"10"`, "SIGUSR1's number"},
}

// answersElsewise tells whether FreeBSD is known to answer otherwise.
func answersElsewise(title, got, want string) bool {
	for _, h := range hostAnswers {
		if regexp.MustCompile(h.request).MatchString(title) {
			return true
		}
	}
	for _, h := range hostWords {
		if regexp.MustCompile(h.request).MatchString(title) {
			got = strings.ReplaceAll(got, h.own, h.recorded)
		}
	}
	for _, l := range hostLines {
		re := regexp.MustCompile(l.line)
		got, want = withoutLines(re, got), withoutLines(re, want)
	}
	return got == want
}

// stoppedSleep is the exit code of a container's only process that does nothing about SIGTERM and is stopped: it is not process 1, and ends by it.
const stoppedSleep = 143

// podMounts are how many mounts of the host a pod of one app with a volume has more than a container: the volume, and the /dev/shm that its apps share.
const podMounts = 2
