package runtime

import "time"

// An Observer is told of what is measured. It doesn't wait, and may be called from several goroutines.
type Observer interface {
	// Took says how long an act on a container took that succeeded: create, start, stop, kill, restart, delete, commit, changes, exec
	// (until the process runs). Starts by a restart policy and a container's removal of itself count too.
	Took(action string, d time.Duration)
	// Probed says how a health check went.
	Probed(healthy bool)
	// Pulled says that one reference has been pulled, or that err came of it.
	Pulled(d time.Duration, err error)
	// Downloaded says that n more bytes of layers have come from registries.
	Downloaded(n int)
}

// unobserved is the Observer of those who have none.
type unobserved struct{}

func (unobserved) Took(string, time.Duration)  {}
func (unobserved) Probed(bool)                 {}
func (unobserved) Pulled(time.Duration, error) {}
func (unobserved) Downloaded(int)              {}

// timed begins an act. The function that it returns ends it, and tells the observer if *err is nil then.
func (c *Containers) timed(action string, err *error) func() {
	begin := time.Now()
	return func() {
		if *err == nil {
			c.cfg.Observer.Took(action, time.Since(begin))
		}
	}
}
