package jailer

import (
	"context"

	"golang.org/x/sys/unix"
)

// grasped is a process that can be signalled and waited for, and that no other one's pid is taken for: a pidfd.
type grasped struct{ fd int }

// grasp takes hold of a process. ESRCH or EINVAL: there is none.
func grasp(pid int) (*grasped, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	return &grasped{fd}, nil
}

func (p *grasped) release() { unix.Close(p.fd) }

// signal returns ESRCH if the process has ended.
func (p *grasped) signal(sig unix.Signal) error { return unix.PidfdSendSignal(p.fd, sig, nil, 0) }

// wait returns when the process has ended.
func (p *grasped) wait(ctx context.Context) error {
	for ctx.Err() == nil {
		// The kernel can't wait for a context: look at it twice a second.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 500)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return err
		}
	}
	return ctx.Err()
}
