package install

import (
	"context"
	"strings"
)

// madeBy is the comment of an account that is ours.
const madeBy = "made by bgbot gate install"

// account is the agent's user on the VM.
type account struct{ user string }

// entry is what the machine says of a user; uid is "" if there is none.
type entry struct{ uid, about, home, shell, password, pam string }

func (m *Machine) account(ctx context.Context, user string) (entry, error) {
	s, err := m.script(ctx, "account", nil, user)
	if err == nil && s.exit != 0 {
		err = m.wrong("the account "+user, s)
	}
	if err != nil {
		return entry{}, err
	}
	f, _ := fields(s.out)
	return entry{
		uid: first(f["uid"]), about: first(f["about"]), home: first(f["home"]), shell: first(f["shell"]),
		password: first(f["password"]), pam: first(f["pam"]),
	}, nil
}

// ours says that we made it. Some systems put commas behind the comment.
func (e entry) ours() bool { return strings.TrimRight(e.about, ",") == madeBy }

// unfit says why the agent could not or should not have the account; "" if it may.
func (e entry) unfit() string {
	switch {
	case e.uid == "0":
		return "it is another name of root"
	case strings.HasSuffix(e.shell, "/nologin") || strings.HasSuffix(e.shell, "/false"):
		return "its shell is " + e.shell
	case e.password == "locked" && e.pam == "no":
		return "it is locked, and sshd without PAM then takes no key either"
	case e.ours() && e.password == "set":
		return "it has a password"
	}
	return ""
}

func (a account) what() string { return "user " + a.user }

func (a account) paste() string {
	return commandLine("useradd", "--system", "--create-home", "--home-dir", "/home/"+a.user, "--shell", "/bin/bash",
		"--comment", madeBy, "--password", "*", a.user)
}

func (a account) check(ctx context.Context, m *Machine) (state, string, error) {
	e, err := m.account(ctx, a.user)
	switch {
	case err != nil:
		return "", "", err
	case e.uid == "":
		return isMissing, "", nil
	case e.unfit() != "":
		return isOther, e.unfit(), nil
	case !e.ours():
		return isOK, "it was there before; left as it is", nil
	}
	return isOK, "", nil
}

func (a account) make(ctx context.Context, m *Machine) (string, error) {
	e, err := m.account(ctx, a.user)
	if err != nil {
		return "", err
	}
	how := "new"
	switch {
	case e.uid != "" && !e.ours():
		return "", problem("the user %s on %s was made by somebody else and does not fit: %s. Mend it there, or name another with --user.", a.user, m.at(), e.unfit())
	case e.uid != "":
		how = "mend"
	case !m.has("useradd"):
		return "", problem("%s has no useradd; make the user %s there by hand, then run this again.", m.at(), a.user)
	}
	return "", m.run(ctx, "adduser", "the user "+a.user, nil, a.user, madeBy, how)
}

func (a account) remove(ctx context.Context, m *Machine) (state, string, error) {
	e, err := m.account(ctx, a.user)
	switch {
	case err != nil:
		return "", "", err
	case e.uid == "":
		return absent, "", nil
	case !e.ours():
		return kept, "it was there before", nil
	}
	return removed, "with its home " + e.home, m.run(ctx, "deluser", a.user, nil, a.user)
}
