package servers

import (
	"fmt"
	"io"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/internal/need"
)

// An FTP server listens on a passive port only when a client has asked for it, and takes one connection there: the client's.
func TestPassivePortsOfFTP(t *testing.T) {
	need.Root(t)
	vsftpd := need.Program(t, "vsftpd", "vsftpd")
	dir := folder(t)
	if err := os.Mkdir(filepath.Join(dir, "files"), 0o755); err != nil {
		t.Fatal(err)
	}
	const content = "the file\n"
	write(t, filepath.Join(dir, "files"), "file", content)
	control, passive := freePort(t), freePort(t)
	run(t, vsftpd, write(t, dir, "vsftpd.conf", `listen=YES
background=NO
listen_address=%[1]s
listen_port=%[2]d
pasv_address=%[3]s
pasv_min_port=%[4]d
pasv_max_port=%[4]d
anonymous_enable=YES
no_anon_password=YES
anon_root=%[5]s/files
ftp_username=ftp
nopriv_user=nobody
secure_chroot_dir=%[5]s/files
seccomp_sandbox=NO
`, private, control, public, passive, dir))
	listens(t, control)

	forEachEngine(t, func(t *testing.T, e deploy.Engine) {
		at := freePort(t)
		apply(t, e, route(t, at, control, ""), route(t, passive, passive, "check=off"))
		client := textproto.NewConn(dial(t, at))
		say(t, client, 220, "")
		say(t, client, 230, "USER anonymous")
		for range 3 {
			address := say(t, client, 227, "PASV")
			want := fmt.Sprintf("(%s,%d,%d)", strings.ReplaceAll(public.String(), ".", ","), passive>>8, passive&0xff)
			if !strings.Contains(address, want) {
				t.Fatalf("the passive port is %s, want %s", address, want)
			}
			data := dial(t, passive)
			say(t, client, 150, "RETR file")
			if got, err := io.ReadAll(data); err != nil || string(got) != content {
				t.Fatalf("the file is %q, %v", got, err)
			}
			say(t, client, 226, "")
		}
	})
}

// say sends a command, where there is one, and wants an answer.
func say(t *testing.T, client *textproto.Conn, code int, command string) string {
	t.Helper()
	if command != "" {
		if err := client.PrintfLine("%s", command); err != nil {
			t.Fatal(err)
		}
	}
	_, text, err := client.ReadResponse(code)
	if err != nil {
		t.Fatalf("%q: %v", command, err)
	}
	return text
}
