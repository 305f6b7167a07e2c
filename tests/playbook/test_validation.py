"""What is wrong with a playbook, in the playbook's own words: place, message and hint of every kind of mistake."""

from __future__ import annotations

import pytest

from tests.playbook.conftest import Loader, tell
from tests.playbook.examples import FINGERPRINT, HOST_KEY, STEP, download, mirror, mode, play, step

# In `step()`, line 1 is the host, 2 the authentication, 3 the host key, 4 the mode, 5 whatever is added.
MISTAKES = [
    # unknown and missing keys
    (step(hots="x"), "5:3 unknown key 'hots'", "Did you mean 'host'?"),
    # What it means comes before what it looks like.
    (step(mode="{mode_name: move}"), "4:21 'mode_name' must be", "Did you mean 'rename'?"),
    (step(mode=mode(remote="true")), "4:91 unknown key 'remote'", "Did you mean 'resume'?"),
    (step(zebra="x"), "5:3 unknown key 'zebra'", "keywords such as name, connection"),
    (step(mode=mode(permision='"0640"')), "4:91 unknown key 'permision'", "Did you mean 'permissions'?"),
    (play("step: 1\n"), "1:1 unknown key 'step'", "Did you mean 'steps'?"),
    (play("defaults: {retries: 3}\n"), "1:12 unknown key 'retries'", "Known: "),
    (play("connections: {bank: {hst: x}}\n"), "1:22 unknown key 'hst'", "Did you mean 'host'?"),
    ("name: x\n", "1:1 missing key 'steps'", "Add 'steps' to this mapping."),
    ("- host: h\n" + STEP[STEP.index("  hostkey") :], "1:3 the step has no 'authentication'", "in the connection"),
    (
        step(mode="{mode_name: copy_file_to_engine, source_file_name: a}"),
        "4:9 missing key 'destination_file_name'",
        "Add",
    ),
    # variants are chosen by their discriminator
    (step(mode="{source_file_name: a}"), "4:9 missing key 'mode_name'", "copy_file_to_engine, copy_file_from_engine"),
    (step(mode="{mode_nam: copy_file_to_engine}"), "4:10 unknown key 'mode_nam'", "Did you mean 'mode_name'?"),
    (
        step(mode="{mode_name: copy_files_to_engine}"),
        "4:21 'mode_name' must be copy_file_to_engine, copy_file_from_engine, copy_directory_to_engine, "
        "copy_directory_from_engine, list, stats, remove, rename, create_directory, write_file, read_file, create_link or "
        "wait_for, not 'copy_files_to_engine'",
        "Did you mean 'copy_file_to_engine'?",
    ),
    (step(mode="{mode_name: chown, path: /}"), "4:21 'mode_name' must be", "Known: copy_directory_from_engine"),
    (step(mode="{mode_name: [a]}"), "4:21 'mode_name' must be", "Known: "),
    (step(mode="upload"), "4:9 'mode' must be a mapping with 'mode_name', not a string", ""),
    (step(mode=""), "4:3 'mode' must be a mapping with 'mode_name', not null", "Nothing is written after the ':'."),
    (step(authentication="hunter2"), "2:19 'authentication' must be a mapping with 'authentication_method'", ""),
    (
        step(authentication="{authentication_method: password, username: u}"),
        "2:43 'authentication_method' must be username_password, ssh_key, ssh_key_file or ssh_agent, not 'password'",
        "Did you mean 'username_password'?",
    ),
    (
        step(authentication="{authentication_method: ssh_key, username: u, password: hunter2}"),
        "2:19 missing key 'ssh_key'",
        "Add 'ssh_key'",
    ),
    (
        step(authentication="{authentication_method: ssh_agent, username: u, passphrase: hunter2}"),
        "2:67 unknown key 'passphrase'",
        "Known: answers, authentication_method, password, public_key, totp_secret, username.",
    ),
    (step(hostkey="{hostkey_mode: none}"), "3:27 'hostkey_mode' must be known_host, fingerprint or", "Known: "),
    (step(hostkey=HOST_KEY), "3:12 'hostkey' must be a mapping with 'hostkey_mode', not a string", ""),
    (step(port="{port_mode: port_number}"), "5:9 missing key 'port_number'", "Add"),
    (
        step(port="{port_number: 22}"),
        "5:9 missing key 'port_mode'",
        "Write `port_mode: port_number`.",
    ),
    # values
    (
        step(port="'22'"),
        "5:9 'port' must be a mapping with 'port_mode' or an integer, not a string",
        "Remove the quotes.",
    ),
    (step(port="0"), "5:9 'port' must be at least 1, not 0", ""),
    (step(port="65536"), "5:9 'port' must be at most 65535, not 65536", ""),
    (step(port="22.5"), "5:9 'port' must be a mapping with 'port_mode' or an integer, not a number", ""),
    (step(port="true"), "5:9 'port' must be a mapping with 'port_mode' or an integer, not a boolean", ""),
    (step(port="{port_mode: port_number, port_number: 0}"), "5:47 'port_number' must be at least 1, not 0", ""),
    (step(connect_timeout="0"), "5:20 'connect_timeout' must be at least 1, not 0", ""),
    (step(connect_timeout="10s"), "5:20 'connect_timeout' must be an integer, not a string", ""),
    (step(host="5"), "1:9 'host' must be a string, not an integer", "Put it in quotes"),
    (step(host="''"), "1:9 'host' must not be empty", ""),
    (step(connector_type="FTP"), "5:19 'connector_type' must be SFTP or SCP, not 'FTP'", "Did you mean 'SFTP'?"),
    (
        step(mode=mode(permissions="0644")),
        "4:104 'permissions' must be a string, not an integer",
        'quotes, as in "0644"',
    ),
    (step(mode=mode(permissions="0o644")), "4:104 'permissions' must be a string, not an integer", "in quotes"),
    (step(mode=mode(permissions='"4755"')), "4:104 'permissions' must be three octal digits", "Set-uid"),
    (step(mode=mode(permissions='"0648"')), "4:104 'permissions' must be three octal digits", ""),
    (
        step(mode=mode(compare="hash")),
        "4:100 'compare' must be size_mtime or size or checksum or always, not 'hash'",
        "Known: always",
    ),
    (step(mode=mode(modify_window="2 s")), "4:106 'modify_window' must be a length of time such as 2s or 1h", "1h, 7d"),
    (step(mode=mode(modify_window="1h30m")), "4:106 'modify_window' must be a length of time", "A number alone"),
    (step(mode=mode(modify_window="-1")), "4:106 'modify_window' must be at least 0, not -1", ""),
    (step(mode=mode(modify_window="8d")), "4:106 'modify_window' must be at most 7d, not '8d'", "clocks that are off"),
    (
        step(mode=mode(modify_window="2s", compare="checksum")),
        "4:106 'modify_window' means nothing with 'compare: checksum'",
        "Remove one of them.",
    ),
    (
        step(mode=mode(compare="size", modify_window="2s")),
        "4:121 'modify_window' means nothing with 'compare: size'",
        "only 'compare: size_mtime' looks at times",
    ),
    (
        step(mode=mode(modify_window="0", compare="always")),
        "4:106 'modify_window' means nothing with 'compare: always'",
        "",
    ),
    (
        step(mode=mode(permissions="servers")),
        "4:104 'permissions' must be three octal digits such as \"0640\", or server, not 'servers'",
        "",
    ),
    (
        step(mode=download(permissions="server")),
        "4:102 'permissions: server' means nothing here",
        "It is for uploads: leave 'permissions' out.",
    ),
    (
        step(mode="{mode_name: create_directory, path: a, permissions: server}"),
        "4:61 'permissions: server' means nothing here",
        "leave 'permissions' out",
    ),
    (
        step(connector_type="SCP", mode=mode(permissions="server")),
        "4:104 'permissions: server' cannot be kept over SCP: the protocol sends a mode with every file",
        "Use SFTP.",
    ),
    (step(mode=mode(temporary_name="'up/{name}'")), "4:107 'temporary_name' must be a name, without '/'", "directory"),
    (step(mode=mode(temporary_name="upload.tmp")), "4:107 'temporary_name' must hold {name} once", "'{name}.filepart'"),
    (step(mode=mode(temporary_name="'{name}-{name}'")), "4:107 'temporary_name' must hold {name} once", "own name"),
    (
        step(mode=mode(temporary_name="'{name}.{day}'")),
        "4:107 'temporary_name' must hold {name} once, and no other",
        "",
    ),
    (step(mode=mode(temporary_name="'{name}'")), "4:107 'temporary_name' is the file's final name", "Add something"),
    (step(mode=mode(temporary_name="'{name}." + 64 * "x" + "'")), "4:107 'temporary_name' adds more than 64", "255"),
    (step(mode=mode(temporary_name='"{name}\\0"')), "4:107 'temporary_name' contains a character", ""),
    (step(mode=mode(temporary_directory="~/up")), "4:112 '~' is not expanded in a remote path", "login directory"),
    (
        step(mode=mode(temporary_name="'{name}.part'", atomic="false")),
        "4:107 'temporary_name' means nothing with 'atomic: false'",
        "Remove one of them.",
    ),
    (
        step(mode=mode(atomic="false", temporary_directory="/up")),
        "4:127 'temporary_directory' means nothing with 'atomic: false'",
        "Remove one of them.",
    ),
    (
        step(connector_type="SCP", mode=mode(temporary_name="'{name}.part'")),
        "4:107 'temporary_name' cannot be kept over SCP",
        "Use SFTP.",
    ),
    (
        step(connector_type="SCP", mode=mode(temporary_directory="/up")),
        "4:112 'temporary_directory' cannot be kept over SCP",
        "Use SFTP.",
    ),
    (
        step(mode=download(temporary_name="'{name}.part'")),
        "4:89 'temporary_name' means nothing in a download",
        "how an upload is written",
    ),
    (
        step(mode=download(source_location="{location_mode: inherit_from_execution}")),
        "4:89 'source_location' means nothing in this direction",
        "here that is 'destination_location'",
    ),
    (
        step(mode=mode(destination_location="{location_mode: inherit_from_execution}")),
        "4:91 'destination_location' means nothing in this direction",
        "here that is 'source_location'",
    ),
    (
        step(mode=download(destination_location="{location_mode: workspace}")),
        "4:127 'location_mode' must be inherit_from_execution, not 'workspace'",
        "Known: inherit_from_execution",
    ),
    (
        step(mode=download(destination_location="inherit_from_execution")),
        "4:111 'destination_location' must be a mapping with 'location_mode', not a string",
        "",
    ),
    (
        step(mode=mode(temporary_name="'{name}'", temporary_directory=".")),
        "4:138 'temporary_directory' is the destination's own, and 'temporary_name: {name}' gives a file its final name",
        "Name another directory",
    ),
    (
        step(mode=mirror(temporary_directory="/srv/site/.up/", delete="true")),
        "4:135 'temporary_directory' is in the destination, and 'delete: true' would remove it",
        "beside the destination",
    ),
    (
        step(mode=mirror(temporary_directory="/srv/site/in/it", temporary_name="'{name}'")),
        "4:135 'temporary_directory' is the destination's own",
        "such as '{name}.filepart'",
    ),
    (step(mode=mode(channels="0")), "4:101 'channels' must be at least 1, not 0", ""),
    (step(mode=mode(channels="9")), "4:101 'channels' must be at most 8, not 9", ""),
    (step(mode=mode(preserve="[times, owner]")), "4:109 entry 2 of 'preserve' must be permissions or times", ""),
    (step(mode=mode(preserve="[times, times]")), "4:101 'preserve' lists an entry twice", "Remove the second one."),
    (step(mode=mode(atomic="maybe")), "4:99 'atomic' must be true or false, not a string", ""),
    (play("schema_version: '2'\n"), "1:17 'schema_version' must be 1, not '2'", ""),
    (play("vars: {a-b: 1}\n"), "1:8 'a-b' cannot be a variable's name", "Use letters, digits and '_'"),
    (play("connections: {bank: }\n"), "1:15 'bank' must be a mapping, not null", "Nothing is written"),
    ("steps: []\n", "1:8 'steps' must not be empty", "Add at least one entry."),
    ("- a\n", "1:3 step 1 must be a mapping, not a string", ""),
    ("-\n", "1:2 step 1 must be a mapping, not null", "Nothing is written"),
    # what the schema cannot know
    (step(host="-oProxyCommand=x"), "1:9 '-oProxyCommand=x' is not a host name or IP address", ""),
    (step(host="h:2022"), "1:9 'h:2022' is not a host name or IP address", "the port into 'port'"),
    (step(host="me@h"), "1:9 'me@h' is not a host name or IP address", "the user belongs into 'authentication'"),
    (step(host="sftp://h"), "1:9 'sftp://h' is not a host name or IP address", ""),
    (step(host='"a b"'), "1:9 'a b' is not a host name or IP address", ""),
    (
        step(mode=mode().replace("_name: b", "_name: inbox/")),
        "4:88 'destination_file_name' names a directory",
        "full name",
    ),
    (step(mode=mode().replace("_name: b", '_name: "a\\0b"')), "4:88 'destination_file_name' contains a character", ""),
    (
        step(authentication='{authentication_method: ssh_key_file, username: u, ssh_key_file: "a\\0"}'),
        "2:84 'ssh_key_file' contains a character that no path can contain",
        "",
    ),
    (play('workdir: "a\\0b"\n'), "1:10 'workdir' contains a character that no path can contain: 'a\\x00b'", ""),
    (step(connection="bank"), "5:15 no connection is called 'bank'", "The playbook has no 'connections'."),
    (
        play("connections: {bank: {}}\n", step(connection="bnak")),
        "7:15 no connection is called 'bnak'",
        "Did you mean 'bank'?",
    ),
    (
        step(hostkey="{hostkey_mode: known_host, known_host: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ8}"),
        "3:51 the ssh-ed25519 key is cut off",
        "`runner hostkey HOST:PORT` prints",
    ),
    (
        step(hostkey=f"{{hostkey_mode: known_host, known_host: ['{HOST_KEY}', 'ssh-rsa AAAA']}}"),
        "3:136 the text after ssh-rsa is not a key of that type",
        "",
    ),
    (step(hostkey="{hostkey_mode: known_host, known_host: '# none'}"), "3:51 'known_host' holds no key", "prints"),
    (step(hostkey="{hostkey_mode: fingerprint, fingerprint: 'MD5:aa:bb'}"), "3:53 'MD5:aa:bb' is not a SHA256", "MD5"),
    (
        step(hostkey=f"{{hostkey_mode: fingerprint, fingerprint: ['{FINGERPRINT}', SHA256:abc]}}"),
        "3:108 'SHA256:abc' is not a SHA256 fingerprint",
        "43 characters",
    ),
    (
        step(authentication="{authentication_method: ssh_agent, username: u, public_key: ssh-ed25519}"),
        "2:79 not a public key: expected '<type> <base64>'",
        "`ssh-add -L`",
    ),
]


@pytest.mark.parametrize(("text", "told", "hint"), MISTAKES, ids=[told for _, told, _ in MISTAKES])
def test_a_mistake_is_told_where_it_is_with_what_to_do(load: Loader, text: str, told: str, hint: str) -> None:
    problem = load.find_problem(text)

    assert tell(problem).startswith(told)
    assert hint in problem.hint


def test_the_example_that_the_mistakes_are_made_in_is_valid(load: Loader) -> None:
    assert len(load(STEP).steps) == 1
    assert len(load(step(mode=mode())).steps) == 1


def test_all_mistakes_of_all_steps_are_told_at_once_and_in_order(load: Loader) -> None:
    text = (
        step(hots="x", port="0")
        + step(host="h:1", hostkey="{hostkey_mode: fingerprint, fingerprint: x}")
        + step(host="{{ nope }}".join('""'), connect_timeout="0")
        + "- name: nothing else\n"
    )

    assert [tell(problem) for problem in load.find_problems(text)] == [
        "5:3 unknown key 'hots'",
        "6:9 'port' must be at least 1, not 0",
        "7:9 'h:1' is not a host name or IP address",
        "9:53 'x' is not a SHA256 fingerprint",
        "11:9 undefined in the template: 'nope' is undefined",
        "15:20 'connect_timeout' must be at least 1, not 0",
        "16:3 the step has no 'mode'",
    ]


def test_a_mistake_in_what_steps_share_is_told_once(load: Loader) -> None:
    text = play("defaults: {port: 0}\nconnections: {bank: {host: 5}}\n", 3 * step(connection="bank", host="h"))

    assert [tell(problem) for problem in load.find_problems(text)] == [
        "1:18 'port' must be at least 1, not 0",
        "2:28 'host' must be a string, not an integer",
    ]


def test_a_mistake_in_what_very_many_steps_share_hides_no_other(load: Loader) -> None:
    text = play("connections: {bank: {hostkey: {hostkey_mode: fingerprint, fingerprint: x}}}\n")
    keyless = STEP.replace(STEP.splitlines(keepends=True)[2], "") + "  connection: bank\n"

    problems = load.find_problems(text.replace(STEP, "") + 300 * keyless + step(port="0"))

    assert [tell(one) for one in problems] == [
        "1:72 'x' is not a SHA256 fingerprint",
        "1207:9 'port' must be at least 1, not 0",
    ]


def test_after_two_hundred_problems_the_rest_is_only_counted_in(load: Loader) -> None:
    problems = load.find_problems("- a\n" * 1000)

    assert len(problems) == 201
    assert tell(problems[-1]) == "200:3 more than 200 problems"


def test_very_long_words_are_cut_in_messages(load: Loader) -> None:
    long = "x" * 5000
    told = [tell(one) + one.hint for one in load.find_problems(step(mode=f"{{mode_name: {long}}}", zebra="1"))]

    # The names of all modes are some 200 characters.
    assert all(len(text) < 600 for text in told)
