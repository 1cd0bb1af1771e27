package testbed

import (
	"fmt"
	"os"
	"path/filepath"
)

// Compose makes the docker command with this configuration folder know docker compose, as "make deps" builds it into the folder cache.
func Compose(cache, config string) error {
	plugin, err := filepath.Abs(filepath.Join(cache, "bin", "docker-compose"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(plugin); err != nil {
		return fmt.Errorf("docker compose (make deps): %w", err)
	}
	dir := filepath.Join(config, "cli-plugins")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Symlink(plugin, filepath.Join(dir, "docker-compose"))
}
