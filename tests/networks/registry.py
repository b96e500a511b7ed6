"""All networks of the table."""

from __future__ import annotations

from tests.networks import language, plain, timm_networks, vision

SUBJECTS = (*plain.SUBJECTS, *vision.SUBJECTS, *timm_networks.SUBJECTS, *language.SUBJECTS)
BY_NAME = {subject.title: subject for subject in SUBJECTS}
