package integration

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// restarted waits until a policy has started the container n times or more.
func restartedTimes(t *testing.T, id string, n int) {
	t.Helper()
	eventually(t, "restarts of "+id, func() (bool, string) {
		got := inspect(t, id, "{{.RestartCount}}")
		count, err := strconv.Atoi(got)
		return err == nil && count >= n, got
	})
}

// waits waits until the container is in the pause before an automatic restart.
func waits(t *testing.T, id string) {
	t.Helper()
	eventually(t, "the pause before a restart of "+id, func() (bool, string) {
		got := inspect(t, id, "{{.State.Status}} {{.State.Restarting}} {{.State.Running}} {{.State.Pid}}")
		return got == "restarting true true 0", got
	})
}

// resting is a container that has ended with this code after so many restarts, and stays so. It has had an end, and no start since.
func resting(t *testing.T, id string, code, restarts int) {
	t.Helper()
	const all = "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}} {{.State.StartedAt}}"
	eventually(t, "the end of "+id, func() (bool, string) {
		got := inspect(t, id, "{{.State.Status}}")
		return got == "exited", got
	})
	was := inspect(t, id, all)
	if f := strings.Fields(was); f[1] != strconv.Itoa(code) || restarts >= 0 && f[2] != strconv.Itoa(restarts) {
		t.Errorf("%s ended as %q; want exit code %d, %d restarts (-1: any)", id, was, code, restarts)
	}
	time.Sleep(500 * time.Millisecond) // five times the first pause
	equal(t, "a while later", inspect(t, id, all), was)
}

// Every policy with a run that succeeds and with one that fails, and what ends the restarting.
func TestRestartPolicies(t *testing.T) {
	t.Parallel()
	turns := func(policy string, code int) string {
		return container(t, "--restart", policy, image("busybox"), "sh", "-c", "exit "+strconv.Itoa(code))
	}
	stays := func(policy string) string {
		return container(t, "--restart", policy, image("busybox"), "sleep", "600")
	}
	policies := []string{"no", "on-failure", "unless-stopped", "always"}
	cases := map[string]func(t *testing.T){
		"no, success":           func(t *testing.T) { resting(t, turns("no", 0), 0, 0) },
		"no, failure":           func(t *testing.T) { resting(t, turns("no", 3), 3, 0) },
		"on-failure, success":   func(t *testing.T) { resting(t, turns("on-failure", 0), 0, 0) },
		"on-failure:2, failure": func(t *testing.T) { resting(t, turns("on-failure:2", 3), 3, 2) },
		"on-failure, then success": func(t *testing.T) {
			resting(t, container(t, "--restart", "on-failure", image("busybox"), "sh", "-c", "echo x >>/n; test $(wc -l </n) -gt 2"), 0, 2)
		},
		"no such policy": func(t *testing.T) {
			fails(t, 1, "invalid restart policy.*'sometimes'", "create", "--restart", "sometimes", image("busybox"), "true")
		},
		"always with a count": func(t *testing.T) {
			fails(t, 1, "maximum retry count (can only|cannot) be used with", "create", "--restart", "always:3", image("busybox"), "true")
		},
		"update to a policy": func(t *testing.T) {
			id := container(t, image("busybox"), "sh", "-c", "while ! test -e /end; do sleep 0.05; done; rm /end; exit 4")
			ok(t, "update", "--restart", "on-failure:1", id)
			end := []string{"exec", id, "sh", "-c", "(sleep 0.2; touch /end) &"} // a command is ended with its container
			ok(t, end...)
			restartedTimes(t, id, 1)
			eventually(t, "second run", func() (bool, string) { r := docker(t, end...); return r.Code == 0, r.String() })
			resting(t, id, 4, 1)
		},
		"update to none in the pause": func(t *testing.T) {
			id := turns("always", 5)
			restartedTimes(t, id, 2)
			ok(t, "update", "--restart", "no", id)
			resting(t, id, 5, -1)
			equal(t, "policy", inspect(t, id, "{{.HostConfig.RestartPolicy.Name}}"), "no")
		},
		"update of a policy that isn't": func(t *testing.T) {
			fails(t, 1, "invalid restart policy", "update", "--restart", "sometimes", stays("no"))
		},
		"start begins the count anew": func(t *testing.T) {
			id := turns("on-failure:1", 6)
			resting(t, id, 6, 1)
			ok(t, "start", id)
			resting(t, id, 6, 1)
		},
		"a start that fails is tried again": func(t *testing.T) { // only if a run came before: the first start's failure is the user's to see
			id := made(t, ok(t, "create", "--restart", "always", image("busybox"), "nosuch"))
			fails(t, 1, "executable file not found", "start", id)
			match(t, "state", inspect(t, id, "{{.State.Status}} {{.RestartCount}}"), "^(created|exited) 0$")
		},
		"start, kill and restart in the pause": func(t *testing.T) {
			id := turns("unless-stopped", 8)
			restartedTimes(t, id, 4)
			waits(t, id)
			ok(t, "start", id) // it counts as running
			if n := inspect(t, id, "{{.RestartCount}}"); n < "4" {
				t.Errorf("start began the count anew: %s", n)
			}
			ok(t, "restart", id)
			restartedTimes(t, id, 4)
			waits(t, id)
			ok(t, "kill", "-s", "TERM", id)
			resting(t, id, 8, -1)
		},
		"a run in the foreground ends with the first run": func(t *testing.T) {
			name := fresh("fore")
			t.Cleanup(func() { docker(t, "rm", "-f", name) })
			r := docker(t, "run", "--name", name, "--restart", "always", image("busybox"), "sh", "-c", "echo once; exit 9")
			equal(t, "exit code", r.Code, 9)
			equal(t, "output", r.Out, "once\n")
			equal(t, "wait", ok(t, "wait", name), "9")
			restartedTimes(t, name, 2)
		},
		"and removal": func(t *testing.T) {
			status, body := postJSON(t, "/v1.41/containers/create", `{"Image":"`+image("busybox")+`","Cmd":["true"],"HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}`)
			equal(t, "status", status, 400)
			match(t, "its words", body, "can't create 'AutoRemove' container with restart policy")
		},
		"rm -f in the pause": func(t *testing.T) {
			id := turns("always", 7)
			restartedTimes(t, id, 3)
			waits(t, id)
			fails(t, 1, "(?i)(stop the container before|cannot remove a running|is restarting)", "rm", id)
			ok(t, "rm", "-f", id)
			fails(t, 1, "(?i)no such (object|container)", "inspect", id)
		},
	}
	for _, p := range policies[2:] {
		for _, code := range []int{0, 3} {
			cases[p+", exit code "+strconv.Itoa(code)+", stopped in the pause"] = func(t *testing.T) {
				id := turns(p, code)
				restartedTimes(t, id, 3)
				waits(t, id)
				ok(t, "stop", "-t", "0", id)
				resting(t, id, code, -1)
			}
		}
	}
	cases["on-failure, stopped in the pause"] = func(t *testing.T) {
		id := turns("on-failure", 3)
		restartedTimes(t, id, 3)
		waits(t, id)
		ok(t, "stop", id)
		resting(t, id, 3, -1)
	}
	for _, p := range policies {
		cases[p+", stopped"] = func(t *testing.T) {
			id := stays(p)
			ok(t, "stop", "-t", "0", id)
			resting(t, id, stoppedSleep, 0)
			ok(t, "start", id)
			equal(t, "started by hand", inspect(t, id, "{{.State.Running}} {{.RestartCount}}"), "true 0")
		}
		cases[p+", killed"] = func(t *testing.T) {
			id := stays(p)
			ok(t, "kill", id)
			resting(t, id, 137, 0)
		}
	}
	t.Run("cases", func(t *testing.T) {
		for name, test := range cases {
			t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
		}
	})
}
