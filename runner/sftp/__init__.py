"""The SFTP protocol, version 3 as every server speaks it (draft-ietf-secsh-filexfer-02), on one SSH channel."""
