package hooks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"dokku-expose/internal/freeport"
	"dokku-expose/internal/wait"
)

// realConsent is the environment variable that says, with the value 1, that the Dokku of this machine is there for tests:
// it may have apps already, which are left alone, and the plugin, which is uninstalled with its settings.
const realConsent = "DOKKU_EXPOSE_REAL"

const (
	realPlugin = "/var/lib/dokku/plugins/available/expose"
	realRun    = "/run/dokku-expose"
)

// realHost is a Dokku that somebody has installed on this machine.
type realHost struct {
	*host
	dir string
	// ssh is how user dokku is reached: the program and its options.
	ssh []string
	// services are the processes that the plugin wants where no service manager runs.
	services []*exec.Cmd
}

// newRealHost finds a Dokku that may be used, and makes what belongs to a Dokku host run. What it can't get is a reason to
// skip, never to fail: this run comes on top of those with a host of the tests' own.
func newRealHost(t *testing.T) *realHost {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the run on a real Dokku needs to run as root")
	}
	for _, program := range []string{"dokku", "docker", "git", "go", "setpriv", "ssh", "ssh-keygen", "systemctl", "tar", "/usr/sbin/sshd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the run on a real Dokku needs %s", program)
		}
	}
	if _, err := user.Lookup("dokku"); err != nil {
		t.Skipf("the run on a real Dokku needs a Dokku that is set up: %v", err)
	}
	d := &realHost{host: &host{t: t}, dir: t.TempDir()}
	// sshd reads its files as user dokku.
	d.must(os.Chmod(filepath.Dir(d.dir), 0o755))

	if out, err := d.command("docker", "version"); err != nil {
		t.Skipf("the run on a real Dokku needs a running Docker engine: %v\n%s", err, out)
	}
	d.askConsent()
	d.startNginx()
	d.startSSH()
	return d
}

// askConsent sees to it that nobody's Dokku is touched that may be in use.
func (d *realHost) askConsent() {
	d.t.Helper()
	consent := os.Getenv(realConsent) == "1"
	apps, err := d.command("dokku", "--quiet", "apps:list")
	if err != nil {
		d.t.Skipf("the run on a real Dokku needs one that works: %v\n%s", err, apps)
	}
	if strings.TrimSpace(stdoutOf(apps)) != "" && !consent {
		d.t.Skipf("the Dokku of this machine has apps; %s=1 says that it is there for tests", realConsent)
	}
	if _, err := os.Lstat(realPlugin); errors.Is(err, fs.ErrNotExist) {
		return
	}
	if !consent {
		d.t.Skipf("the plugin is installed on this machine already; %s=1 says that it may be uninstalled with its settings", realConsent)
	}
	d.dokkuAsRoot("plugin:uninstall", "expose")
}

// stdoutOf leaves out what Dokku warns of.
func stdoutOf(text string) string {
	return regexp.MustCompile(`(?m)^ !.*$`).ReplaceAllString(text, "")
}

// startNginx makes Dokku's HTTP proxy run, without which no deploy succeeds.
func (d *realHost) startNginx() {
	d.t.Helper()
	if _, err := d.command("systemctl", "is-active", "--quiet", "nginx"); err == nil {
		return
	}
	if out, err := d.command("systemctl", "start", "nginx"); err != nil {
		d.t.Skipf("the run on a real Dokku needs nginx, which does not start: %v\n%s", err, out)
	}
	d.t.Cleanup(func() {
		if out, err := d.command("systemctl", "stop", "nginx"); err != nil {
			d.t.Errorf("nginx was started for this test and could not be stopped: %v\n%s", err, out)
		}
	})
}

// startSSH runs an sshd of the test's own, with a key of the test's own: neither the machine's sshd nor the keys that
// Dokku knows are touched.
func (d *realHost) startSSH() {
	d.t.Helper()
	for _, name := range []string{"host", "client"} {
		if out, err := d.command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "dokku-expose-test", "-f", filepath.Join(d.dir, name)); err != nil {
			d.t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	public, err := os.ReadFile(filepath.Join(d.dir, "client.pub"))
	d.must(err)
	port := d.freePort()
	// As `dokku ssh-keys:add` writes it.
	d.write("authorized_keys", fmt.Sprintf("command=\"NAME=test `cat /home/dokku/.sshcommand` $SSH_ORIGINAL_COMMAND\",restrict %s", public))
	d.write("sshd_config", fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %s/host
AuthorizedKeysFile %s/authorized_keys
PidFile none
AllowUsers dokku
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
`, port, d.dir, d.dir))
	// OpenSSH does not start without it; where an init system runs, its unit makes it.
	d.must(os.MkdirAll("/run/sshd", 0o755))
	sshd := d.background("sshd", "/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(d.dir, "sshd_config"))
	d.t.Cleanup(func() { d.terminate(sshd) })

	d.ssh = []string{"ssh", "-F", "none", "-i", filepath.Join(d.dir, "client"), "-p", fmt.Sprint(port), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectionAttempts=30"}
	if out, err := d.command(d.ssh[0], append(d.ssh[1:], "dokku@127.0.0.1", "version")...); err != nil {
		log, _ := os.ReadFile(filepath.Join(d.dir, "sshd.log"))
		d.t.Skipf("the run on a real Dokku needs ssh to user dokku, which does not work here: %v\n%s%s", err, out, log)
	}
}

// command runs a program, and returns all that it says.
func (d *realHost) command(name string, args ...string) (string, error) {
	var out bytes.Buffer
	err := d.runTo(&out, name, args...)
	return out.String(), err
}

// runTo is command for an output that is looked at while it comes.
func (d *realHost) runTo(out io.Writer, name string, args ...string) error {
	// Cleaning up comes after the end of the test's context.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.t.Context()), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	// A process that goes on in the background, as Dokku leaves some, may keep the output open.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// dokkuAsRoot runs what Dokku wants root for.
func (d *realHost) dokkuAsRoot(args ...string) string {
	d.t.Helper()
	out, err := d.command("dokku", args...)
	if err != nil {
		d.t.Fatalf("dokku %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// dokku runs a command as an operator does from elsewhere.
func (d *realHost) dokku(args ...string) string {
	d.t.Helper()
	out, err := d.command(d.ssh[0], append(append(d.ssh[1:len(d.ssh):len(d.ssh)], "dokku@127.0.0.1", "--"), args...)...)
	if err != nil {
		d.t.Fatalf("ssh dokku@... %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// background starts a program whose output goes to the file NAME.log, with all that it starts in one process group.
func (d *realHost) background(name string, args ...string) *exec.Cmd {
	d.t.Helper()
	log, err := os.Create(filepath.Join(d.dir, name+".log"))
	d.must(err)
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	d.must(cmd.Start())
	return cmd
}

// terminate ends what background has started.
func (d *realHost) terminate(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	over := time.AfterFunc(wait.Patience, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	_ = cmd.Wait()
	over.Stop()
}

func (d *realHost) write(name, text string) {
	d.t.Helper()
	d.must(os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644))
}

// freePort is a port that nobody has, below those that the system gives to clients.
func (d *realHost) freePort() uint16 {
	d.t.Helper()
	port, err := freeport.Take()
	d.must(err)
	return port
}
